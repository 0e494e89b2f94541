"""A judge that gives no log-probabilities: what the page says, and ``verdict: text``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.evaluation_cases import cases, scripted_judge

from harness.score.results import read_result

pytestmark = pytest.mark.slow


def test_the_way_out_is_named_and_works(tmp_path: Path, cli: Any) -> None:
    recipe = cases("26-logprobs", "no-logprobs.yaml").read_text()
    text = recipe.replace("{max_new_tokens: 8}", "{max_new_tokens: 8, verdict: text}")
    with scripted_judge() as address:
        for name, content in (("no-logprobs", recipe), ("text", text.replace("name: no-logprobs", "name: text"))):
            path = tmp_path / f"{name}.yaml"
            path.write_text(content.replace("http://127.0.0.1:18765/v1", address))
            done = cli("compare", path.name, "--data-dir", cases("data"), cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            printed = " ".join((done.stdout + done.stderr).split())
            folder = tmp_path / "results" / "local" / name / "pairs-16"
            result = read_result(folder / "start" / "seed-0.json").benchmark("alpaca_eval_2")
            assert result is not None
            assert result.label == "6 instructions of another set"
            metric = result.metric("win_rate")
            way_out = "alpaca_eval_2: {verdict: text}"
            if name == "text":
                assert (metric.n_valid, metric.n_total) == (6, 6)
                assert way_out not in printed
            else:
                assert (metric.value, metric.n_valid, metric.n_total) == (None, 0, 6)
                assert f"6 no log-probabilities (a judge that gives none takes {way_out})" in printed
                assert way_out in (folder / "LEADERBOARD.md").read_text()
