"""Every built-in method by the real command on the tiny recipe: adapters, full weights, and killed in a round."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.recipe.load import builtin_recipes
from harness.run.plugins import OURS, load, plugins
from harness.score.results import RunResult, read_result

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ALL = [name for name, plugin in plugins("methods").items() if plugin.origin == OURS]
ONLINE = {"online-dpo", "iterative-dpo", "sail-pr", "sail-simpo"}

pytestmark = pytest.mark.slow


def result(folder: Path, recipe: str, method: str) -> RunResult:
    return read_result(folder / "results" / recipe / "pairs-16" / method / "seed-0.json")


def test_compare_tiny_with_all_methods(cli: Cli, tmp_path: Path) -> None:
    """Under 5 minutes on 2 cores; each spends exactly the budget, and only what it says."""
    began = time.monotonic()
    done = cli("compare", "tiny", "--methods", "all", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - began < 300
    for name in ALL:
        found, method = result(tmp_path, "tiny", name), load("methods", name)
        assert found.status == "ok", name
        assert len(found.benchmarks) == 6
        phases = found.ledger["phases"]
        train = phases.get("train", {})
        assert (train.get("pairs", 0), train.get("steps", 0)) == ((16, 4) if method.trains else (0, 0)), name
        assert train.get("rows", 0) == {"sft": 16, "start": 0, "longer": 0}.get(name, 32), name
        assert train.get("updates", 0) == train.get("steps", 0)
        assert (phases.get("oracle", {}).get("calls", 0) > 0) == (name in ONLINE), name
        assert (phases.get("generate", {}).get("generated", 0) > 0) == (name in ONLINE | {"spin", "sail-pp"}), name
    page = (tmp_path / "results/tiny/pairs-16/LEADERBOARD.md").read_text()
    assert all(f"| `{name}` |" in page for name in ALL)
    assert "Failed runs" not in page
    longer, start = result(tmp_path, "tiny", "longer"), result(tmp_path, "tiny", "start")
    for benchmark in ("preference", "alpaca_eval"):
        a, b = longer.benchmark(benchmark), start.benchmark(benchmark)
        assert a is not None
        assert b is not None
        assert a.protocol_hash == b.protocol_hash
        assert a.items != b.items
    a, b = longer.benchmark("mmlu"), start.benchmark("mmlu")
    assert a == b


def test_every_method_with_full_weights(cli: Cli, tmp_path: Path) -> None:
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    changes: dict[str, Any] = {
        "name": "full",
        "train": tiny["train"] | {"lora": None},
        "benchmarks": {"preference": {"max_new_tokens": 8}},
        "tune": {"learning_rates": [1e-4]},
        "variants": {
            "iterative-split": {"method": "iterative-dpo", "options": {"prompts": "split", "reference": "previous"}},
            "iterative-again": {"method": "iterative-dpo", "options": {"reference": "previous", "begin": "restart"}},
        },
        "methods": [*(n for n in ALL if load("methods", n).trains), "iterative-split", "iterative-again"],
    }
    (tmp_path / "full.yaml").write_text(yaml.safe_dump(tiny | changes))
    done = cli("compare", "full.yaml", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in changes["methods"]:
        found = result(tmp_path, "full", name)
        assert found.ledger["phases"]["train"]["pairs"] == 16, name
        kl = found.benchmark("preference")
        assert kl is not None
        assert any(abs(v) > 1e-6 for v in kl.items["items"]["kl"]), f"{name} did not move"


@pytest.mark.parametrize("method", ["iterative-dpo", "spin"])
@pytest.mark.parametrize("where", ["pairs.jsonl", "checkpoints/checkpoint-1/ledger.json"])
def test_killed_in_a_round(cli: Cli, tmp_path: Path, method: str, where: str) -> None:
    """kill -9 in the second round, once its pairs are there or once a step of it is: the same policy and spending."""
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    changes = {"benchmarks": {"preference": {"max_new_tokens": 8}}, "tune": {"learning_rates": [1e-3]}}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.yaml").write_text(yaml.safe_dump(tiny | changes | {"name": "r", "methods": [method]}))
    assert cli("compare", "r.yaml", cwd=tmp_path / "whole").returncode == 0
    command = [sys.executable, "-c", "from harness.cli import main; main()", "compare", "r.yaml"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tmp_path / "cut", **quiet)  # type: ignore[call-overload]
    while not list((tmp_path / "cut/.sail-bench/work").glob(f"train-*/round-1/{where}")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    time.sleep(1)
    assert cli("compare", "r.yaml", cwd=tmp_path / "cut").returncode == 0
    whole, cut = (result(tmp_path / name, "r", method) for name in ("whole", "cut"))
    assert whole.benchmarks == cut.benchmarks
    for phase, row in whole.ledger["phases"].items():
        for quantity, amount in row.items():
            if quantity != "seconds":
                assert cut.ledger["phases"][phase][quantity] == amount, (phase, quantity)
