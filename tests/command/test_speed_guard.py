"""Guard against regressions of speed: ratios against other code measured in the same run, with generous margins."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.speed.bench import ROOT
from tests.speed.measure import Ratio
from tests.speed.page import load_record

AT_MOST = {
    "DPO step": 1.25,
    "SAIL-DP step against DPO's": 1.5,
    "SimPO step": 1.25,
    "ORPO step": 1.25,
    "KTO step": 1.5,
    "memory, late batches against early ones": 1.05,
    "memory, late texts of new lengths against early ones": 1.05,
    "compare again with nothing to do, against --help": 15,
    "nothing to do, 8 times the prompts": 1.5,
    "leaderboard, 8 times the prompts": 1.5,
    "leaderboard of 6 methods x 6 seeds": 30,
    "leaderboard of 6 methods x 6 seeds, again": 8,
}
AT_LEAST = {
    "SAIL-PR, pairs": 0.8,
    "generation, batch 4, transformers": 0.8,
    "generation, batch 64, transformers": 0.8,
    "MMLU-like, 5 examples": 1.2,
    "ARC-like, 25 examples": 1.2,
    "length-controlled fits": 50,
    "judgments, against one at a time": 8,
}


@pytest.fixture(scope="module")
def ratios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ratio]:
    """All comparisons, with their small sizes; none may fail."""
    folder = tmp_path_factory.mktemp("speed")
    command = [sys.executable, "-m", "tests.speed.bench", "--quick", "--out", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    (file,) = folder.glob("speed-*-quick.json")
    record = load_record(json.loads(file.read_text(encoding="utf-8")))
    return record.ratios()


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*AT_MOST, *AT_LEAST])
def test_speed_has_not_regressed(name: str, ratios: dict[str, Ratio]) -> None:
    """The interval reaches into what is allowed: a busy machine alone fails nothing."""
    ratio = ratios[name]
    assert ratio.low is not None
    assert ratio.high is not None
    if name in AT_MOST:
        assert ratio.low <= AT_MOST[name], ratio
    else:
        assert ratio.high >= AT_LEAST[name], ratio


def test_an_unknown_comparison_is_refused() -> None:
    command = [sys.executable, "-m", "tests.speed.bench", "--only", "no-such"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no comparison 'no-such': choose from dpo, simpo" in done.stderr
