"""Every kind of built-in method by the real command: adapters, full weights, and what each spends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from kit.command import SMALL, Cli, tiny_recipe, write_tiny

from harness.run.plugins import OURS, load, plugins
from harness.score.results import RunResult, read_result

ALL = [name for name, plugin in plugins("methods").items() if plugin.origin == OURS]
ONLINE = {"online-dpo", "iterative-dpo", "sail-pr", "sail-simpo"}
SAMPLING = ONLINE | {"spin", "sail-pp"}
ROWS = {"sft": 16, "start": 0, "longer": 0}  # of 16 pairs; two rows a pair for all others
TINY = ("start", "dpo", "sail-pr", "sail-pp", "sail-dp")  # the methods of the recipe
KINDS = ("start", "longer", "sft", "simpo", "kto", "online-dpo", "iterative-dpo", "spin")

pytestmark = pytest.mark.slow


def result_of(folder: Path, recipe: str, method: str, budget: str = "pairs-16") -> RunResult:
    return read_result(folder / "results" / "local" / recipe / budget / method / "seed-0.json")


def trains_by(method: str) -> type:
    """The class whose ``train`` a method uses."""
    return next(cls for cls in load("methods", method).__mro__ if "train" in vars(cls))


def assert_spends_what_it_says(result: RunResult) -> None:
    """16 pairs in 4 steps if it trains; labels, samples and rows as the method's kind has it."""
    name, phases = result.method, result.ledger["phases"]
    assert result.status == "ok", name
    train, trains = phases.get("train", {}), load("methods", name).trains
    assert (train.get("pairs", 0), train.get("steps", 0)) == ((16, 4) if trains else (0, 0)), name
    assert train.get("rows", 0) == ROWS.get(name, 32), name
    assert train.get("updates", 0) == train.get("steps", 0)
    assert (phases.get("oracle", {}).get("calls", 0) > 0) == (name in ONLINE), name
    assert (phases.get("generate", {}).get("generated", 0) > 0) == (name in SAMPLING), name


def assert_longer_is_another_instruction(longer: RunResult, start: RunResult) -> None:
    """`longer` asks the start policy otherwise, under the same protocol; multiple choice is left as it is."""
    for benchmark in ("preference", "alpaca_eval"):
        a, b = longer.benchmark(benchmark), start.benchmark(benchmark)
        assert a is not None
        assert b is not None
        assert a.protocol_hash == b.protocol_hash
        assert a.items != b.items
    assert longer.benchmark("mmlu") == start.benchmark("mmlu")


def test_each_method_trains_like_one_that_is_run_here() -> None:
    """Those that are not run through the command differ from one that is in loss and options alone (test_methods.py);
    the control with shuffled labels hands other rows to the method that it extends."""
    run = {trains_by(name) for name in (*TINY, *KINDS)}
    others = {name for name in ALL if trains_by(name) not in run}
    assert others == {"dpo-shuffled-labels"}
    assert issubclass(load("methods", "dpo-shuffled-labels"), load("methods", "dpo"))


def test_every_kind_of_method_spends_the_budget(finished_tiny: Path, tiny_copy: Path, cli: Cli) -> None:
    for name in TINY:
        assert_spends_what_it_says(result_of(finished_tiny, "tiny", name))
    benchmarks = {
        "preference": {"max_new_tokens": 16},
        "alpaca_eval": {"max_new_tokens": 8, "limit": 6},
        "mmlu": {"limit": 8},
    }
    changes = SMALL | {"benchmarks": benchmarks, "train": tiny_recipe()["train"] | {"checkpoints": 1}}
    write_tiny(tiny_copy / "kinds.yaml", **changes, methods=list(KINDS))
    done = cli("compare", "kinds.yaml", cwd=tiny_copy)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in KINDS:
        result = result_of(tiny_copy, "kinds", name)
        assert_spends_what_it_says(result)
        assert len(result.benchmarks) == 3
    page = (tiny_copy / "results/local/kinds/pairs-16/LEADERBOARD.md").read_text()
    assert all(f"| `{name}` |" in page for name in KINDS)
    assert "Failed runs" not in page
    assert_longer_is_another_instruction(*(result_of(tiny_copy, "kinds", name) for name in ("longer", "start")))


@pytest.mark.nightly
def test_compare_tiny_with_all_methods(cli: Cli, tmp_path: Path) -> None:
    """Under 5 minutes on 2 cores; each spends exactly the budget, and only what it says."""
    began = time.monotonic()
    done = cli("compare", "tiny", "--methods", "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - began < 300
    for name in ALL:
        result = result_of(tmp_path, "tiny", name)
        assert_spends_what_it_says(result)
        assert len(result.benchmarks) == 6
    page = (tmp_path / "results/local/tiny/pairs-16/LEADERBOARD.md").read_text()
    assert all(f"| `{name}` |" in page for name in ALL)
    assert "Failed runs" not in page
    assert_longer_is_another_instruction(*(result_of(tmp_path, "tiny", name) for name in ("longer", "start")))


def test_all_stands_for_every_installed_method(tiny_copy: Path, cli: Cli) -> None:
    shown = cli("plan", "tiny", "--methods", "all", cwd=tiny_copy)
    assert shown.returncode == 0, shown.stderr
    assert all(f"  {name} seed 0: {'done' if name in TINY else 'open'}" in shown.stdout for name in ALL)


ROUNDS = {
    "iterative-split": {"method": "iterative-dpo", "options": {"prompts": "split", "reference": "previous"}},
    "iterative-again": {"method": "iterative-dpo", "options": {"reference": "previous", "begin": "restart"}},
}


def assert_full_weights_move(folder: Path, cli: Cli, methods: list[str], **changes: Any) -> None:
    tune = {"learning_rates": [1e-4]}
    write_tiny(folder / "full.yaml", **SMALL | {"tune": tune, "variants": ROUNDS, "methods": methods} | changes)
    done = cli("compare", "full.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in methods:
        result = result_of(folder, "full", name)
        assert result.ledger["phases"]["train"]["pairs"] == 16, name
        preference = result.benchmark("preference")
        assert preference is not None
        assert any(abs(v) > 1e-6 for v in preference.items["items"]["kl"]), f"{name} did not move"


def test_full_weights(cli: Cli, tiny_copy: Path) -> None:
    """One method of each trainer; iterated ones with a reference that changes."""
    train = {"batch_size": 4, "lora": None, "checkpoints": 1}
    assert_full_weights_move(tiny_copy, cli, ["dpo", "kto", "sail-pr", "spin", *ROUNDS], train=train)


@pytest.mark.nightly
def test_every_method_with_full_weights(cli: Cli, tmp_path: Path) -> None:
    train = {"batch_size": 4, "lora": None, "checkpoints": 4}
    assert_full_weights_move(tmp_path, cli, [*(n for n in ALL if load("methods", n).trains), *ROUNDS], train=train)
