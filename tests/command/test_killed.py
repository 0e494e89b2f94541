"""Interrupted work: kill -9 and Ctrl-C at any point, and the same command ends in the same results."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from kit.command import SMALL, Cli, kill_when, write_tiny
from kit.comparison import timeless_results

from harness.score.results import read_result

pytestmark = pytest.mark.slow


def assert_equal_to_the_last_digit(value: Any, expected: Any, place: str) -> None:
    """Equal; numbers that are stored with six decimals may differ in the last one, since what is left of a batch is
    computed in a batch of another shape."""
    if isinstance(expected, dict):
        assert value.keys() == expected.keys(), place
        for key in expected:
            assert_equal_to_the_last_digit(value[key], expected[key], f"{place}/{key}")
    elif isinstance(expected, list):
        assert len(value) == len(expected), place
        for i, pair in enumerate(zip(value, expected, strict=True)):
            assert_equal_to_the_last_digit(*pair, f"{place}[{i}]")
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, rel=1e-6, abs=2e-6), place
    else:
        assert value == expected, place


def test_killed_anywhere_the_same_command_ends_in_the_same_results(
    finished_tiny: Path, cli: Cli, tmp_path: Path
) -> None:
    """kill -9 in training (after a checkpoint), Ctrl-C while answering; then to the end. test_official_interrupted.py
    has kill -9 while judging."""
    store, methods = tmp_path / ".sail-bench", ("start", "sail-pr")
    compare = ["compare", "tiny", "--methods", ",".join(methods)]

    def checkpoint() -> bool:
        return any(store.glob("work/train-*/checkpoints/checkpoint-*/ledger.json"))

    def answers() -> bool:
        return any(p for p in store.glob("stages/answers-*") if "train-" in (p / "manifest.json").read_text())

    kill_when(tmp_path, compare, checkpoint)
    stages = set(store.glob("stages/*"))
    kill_when(tmp_path, compare, answers, signal.SIGINT)
    built = {p: (p / "manifest.json").stat().st_mtime_ns for p in store.glob("stages/*")}
    assert stages < set(built)
    done = cli(*compare, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for path, when in built.items():
        assert (path / "manifest.json").stat().st_mtime_ns == when, "finished work was done again"
    again, first = timeless_results(tmp_path, methods), timeless_results(finished_tiny, methods)
    for method in methods:
        # work of the interrupted batch is done (and paid) again: at most one batch of each kind
        spent, expected = again[method].pop("ledger"), first[method].pop("ledger")
        for phase, row in expected["phases"].items():
            for name, amount in row.items():
                exact = phase in ("train", "data", "reference", "generate", "oracle")
                assert spent["phases"][phase][name] >= amount * 0.999, (method, phase, name)
                assert not exact or spent["phases"][phase][name] == amount, (method, phase, name)
        again[method].pop("tuning_ledger"), first[method].pop("tuning_ledger")
        assert_equal_to_the_last_digit(again[method], first[method], method)


def test_killed_after_the_last_checkpoint_it_trains_no_step_more(
    cli: Cli, finished_tiny: Path, tiny_copy: Path
) -> None:
    """The work folder of a finished training comes back with all its checkpoints, as if the rename had not happened."""
    stages, methods = tiny_copy / ".sail-bench" / "stages", ("dpo", "sail-pr")
    shutil.rmtree(tiny_copy / "results")
    manifests = {p.parent: json.loads(p.read_text()) for p in stages.glob("train-*/manifest.json")}
    before = {}
    for path, manifest in manifests.items():
        if manifest["inputs"]["method"][0] not in methods:
            continue
        before[path.name] = manifest["ledger"]["phases"]["train"]
        for name in ("manifest.json", "log.json"):
            (path / name).unlink()
        shutil.rmtree(path / "policy")
        path.rename(tiny_copy / ".sail-bench" / "work" / path.name)
    assert len(before) == 4
    for path in [*stages.glob("tune-*"), *stages.glob("answers-*"), *stages.glob("judgments-*")]:
        shutil.rmtree(path)
    compare = ["compare", "tiny", "--methods", ",".join(methods), "--benchmarks", "preference"]
    assert cli(*compare, cwd=tiny_copy).returncode == 0
    for name, expected in before.items():
        spent = json.loads((stages / name / "manifest.json").read_text())["ledger"]["phases"]["train"]
        for quantity in ("steps", "pairs", "tokens"):
            assert spent[quantity] == expected[quantity]
    again, first = timeless_results(tiny_copy, methods), timeless_results(finished_tiny, methods)
    for method in methods:
        assert again[method]["benchmarks"] == first[method]["benchmarks"][:1], method


PAIRS, CHECKPOINT = "pairs.jsonl", "checkpoints/checkpoint-1/ledger.json"


@pytest.mark.parametrize(
    ("method", "where"),
    [
        ("iterative-dpo", PAIRS),
        ("spin", CHECKPOINT),
        pytest.param("iterative-dpo", CHECKPOINT, marks=pytest.mark.nightly),
        pytest.param("spin", PAIRS, marks=pytest.mark.nightly),
    ],
)
def test_killed_in_a_round(
    cli: Cli, finished_tiny: Path, tiny_copy: Path, tmp_path: Path, method: str, where: str
) -> None:
    """kill -9 in the second round, once its pairs are there or once a step of it is: the same policy and spending."""
    whole, cut = tiny_copy, Path(shutil.copytree(finished_tiny, tmp_path / "cut"))
    for folder in (whole, cut):
        write_tiny(folder / "rounds.yaml", **SMALL, methods=[method])
    assert cli("compare", "rounds.yaml", cwd=whole).returncode == 0
    kill_when(cut, ["compare", "rounds.yaml"], lambda: any((cut / ".sail-bench/work").glob(f"train-*/round-1/{where}")))
    assert cli("compare", "rounds.yaml", cwd=cut).returncode == 0
    expected, result = (
        read_result(folder / f"results/local/rounds/pairs-16/{method}/seed-0.json") for folder in (whole, cut)
    )
    assert result.benchmarks == expected.benchmarks
    for phase, row in expected.ledger["phases"].items():
        for quantity, amount in row.items():
            if quantity != "seconds":
                assert result.ledger["phases"][phase][quantity] == amount, (phase, quantity)
