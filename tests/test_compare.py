"""The real command with the tiny recipe: whole, resumed after kill -9, repeated, and with runs that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.recipe import builtin_recipes
from harness.results import read_result

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
METHODS = ("start", "dpo", "sail-pr", "sail-pp", "sail-dp")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cli: Cli) -> Path:
    """A finished tiny comparison."""
    folder = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    done = cli("compare", "tiny", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "seconds").write_text(str(time.monotonic() - began))
    return folder


def results(folder: Path) -> dict[str, dict[str, object]]:
    found = {}
    for method in METHODS:
        value = json.loads((folder / f"results/tiny/pairs-16/{method}/seed-0.json").read_text())
        for key in ("ledger", "tuning_ledger", "train_log"):
            value.pop(key)  # these hold seconds
        found[method] = value
    return found


def test_everything_is_there_and_typed(whole: Path) -> None:
    folder = whole / "results" / "tiny" / "pairs-16"
    for method in METHODS:
        result = read_result(folder / method / "seed-0.json")
        assert result.status == "ok"
        assert [b.benchmark for b in result.benchmarks] == list(
            yaml.safe_load(builtin_recipes()["tiny"].read_text())["benchmarks"]
        )
        assert all(len(b.protocol_hash) == 16 for b in result.benchmarks)
        assert all(b.judge for b in result.benchmarks if b.benchmark in ("mt_bench", "alpaca_eval", "arena_hard"))
        trains = method != "start"
        assert len(result.trials) == 2 * trains
        assert result.ledger["phases"].get("train", {}).get("pairs", 0) == 16 * trains
        assert result.ledger["phases"].get("data", {}).get("calls", 0) == 144 * trains
    page = (folder / "LEADERBOARD.md").read_text()
    assert all(f"| `{m}` |" in page for m in METHODS)
    assert (folder / "reward-kl.svg").is_file()
    assert (folder / "leaderboard.svg").is_file()


def test_every_method_trained_on_the_same_ids(whole: Path) -> None:
    pairs = {str(r["data"]) for m, r in results(whole).items()}
    assert len(pairs) == 1
    train = [json.loads(p.read_text()) for p in (whole / ".sail-bench/stages").glob("train-*/manifest.json")]
    assert len(train) == 8
    assert len({m["inputs"]["pairs"] for m in train}) == 1
    tokens = {m["ledger"]["phases"]["train"]["tokens"] for m in train if m["inputs"]["method"][0] in ("dpo", "sail-dp")}
    assert len(tokens) == 1


def test_the_same_command_again_loads_no_model(whole: Path, cli: Cli) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*.json")}
    began = time.monotonic()
    done = cli("compare", "tiny", cwd=whole)
    assert done.returncode == 0
    assert time.monotonic() - began < 15
    assert "already done" in done.stderr
    assert " · train" not in done.stderr
    assert before == {p: p.stat().st_mtime_ns for p in whole.rglob("*.json")}


def test_leaderboard_from_results_alone(whole: Path, cli: Cli, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(whole / "results", tmp_path / "results")
    page = tmp_path / "results/tiny/pairs-16/LEADERBOARD.md"
    assert cli("leaderboard", "--check", cwd=tmp_path).returncode == 0
    original = page.read_text()
    page.write_text(original + "edited")
    failed = cli("leaderboard", "--check", cwd=tmp_path)
    assert failed.returncode == 1
    assert "LEADERBOARD.md" in failed.stderr
    assert cli("leaderboard", "tiny", cwd=tmp_path).returncode == 0
    assert page.read_text() == original


def kill_when(folder: Path, ready: Callable[[], bool], how: signal.Signals, timeout: float = 120) -> None:
    """Start the comparison and send a signal to the whole process as soon as ``ready``."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from harness.cli import main; main()", "compare", "tiny"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + timeout
    while not ready():
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, how)
    process.wait(30)
    assert process.returncode != 0
    time.sleep(1.0)  # the run process notices that its parent is gone


def test_killed_anywhere_the_same_command_ends_in_the_same_results(whole: Path, cli: Cli, tmp_path: Path) -> None:
    """kill -9 in training (after a checkpoint), Ctrl-C while answering, kill -9 while judging; then to the end."""
    store = tmp_path / ".sail-bench"

    def checkpoint() -> bool:
        return any(store.glob("work/train-*/checkpoints/checkpoint-*/ledger.json"))

    def answers() -> bool:
        return any(p for p in store.glob("stages/answers-*") if "train-" in (p / "manifest.json").read_text())

    def judging() -> bool:
        return len(list(store.glob("stages/judgments-*"))) >= 9

    kill_when(tmp_path, checkpoint, signal.SIGKILL)
    stages = set(store.glob("stages/*"))
    kill_when(tmp_path, answers, signal.SIGINT)
    kill_when(tmp_path, judging, signal.SIGKILL)
    built = {p: (p / "manifest.json").stat().st_mtime_ns for p in store.glob("stages/*")}
    assert stages < set(built)
    done = cli("compare", "tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for path, when in built.items():
        assert (path / "manifest.json").stat().st_mtime_ns == when, "finished work was done again"
    assert results(tmp_path) == results(whole)
    resumed = list(store.glob("logs/*.log"))
    assert resumed


def test_a_failing_run_gets_a_row_and_the_others_finish(cli: Cli, tmp_path: Path) -> None:
    """A learning rate that makes the weights explode: the loss is no number, and the row says so."""
    recipe = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    recipe |= {
        "name": "bad",
        "tune": {"learning_rates": [1.0e30]},
        "methods": ["start", "dpo"],
        "benchmarks": {"mmlu": {"limit": 4}},
    }
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(recipe))
    done = cli("compare", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "dpo seed 0" in done.stderr
    page = (tmp_path / "results/bad/pairs-16/LEADERBOARD.md").read_text()
    assert "## Failed runs" in page
    assert "`start`" in page
    assert read_result(tmp_path / "results/bad/pairs-16/dpo/seed-0.json").status == "failed"
    assert not list((tmp_path / ".sail-bench/stages").glob("train-*"))


def test_a_model_directory_is_a_start_policy(cli: Cli, tiny_dir: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    recipe |= {"name": "mine", "model": str(tiny_dir), "methods": ["start"], "benchmarks": {"mmlu": {"limit": 4}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    assert cli("compare", "mine.yaml", cwd=tmp_path).returncode == 0
    page = (tmp_path / "results/mine/pairs-16/LEADERBOARD.md").read_text()
    assert str(tiny_dir) not in page
