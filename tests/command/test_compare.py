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

from harness.recipe.load import builtin_recipes
from harness.score.results import read_result

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
    """Result files without what a clock or the operating system decides: seconds, peak memory, the hash over them."""
    found = {}
    for method in METHODS:
        value = json.loads((folder / f"results/tiny/pairs-16/{method}/seed-0.json").read_text())
        value.pop("run_key")
        for name in ("ledger", "tuning_ledger"):
            value[name].pop("peak_memory_bytes")
            for phase in value[name]["phases"].values():
                phase.pop("seconds", None)
        for row in value["train_log"]:
            for name in [n for n in row if n.startswith("seconds/") or n == "num_tokens"]:
                row.pop(name)  # TRL counts tokens from the resume on; the ledger does not
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
        bought, pairs = len(result.ledger.get("bought", [])), result.data["train"]["pairs"]
        assert (bought > 0) == trains
        calls = 24 * 4 * bought / pairs  # all answers to the training prompts, shared out over the pairs
        assert result.ledger["phases"].get("data", {}).get("calls", 0) == pytest.approx(calls, abs=0.5)
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
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell would have it ignored
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
    again, first = results(tmp_path), results(whole)
    for method in METHODS:
        # work of the interrupted batch is done (and paid) again: at most one batch of each kind
        spent, expected = again[method].pop("ledger"), first[method].pop("ledger")
        for phase, row in expected["phases"].items():
            for name, amount in row.items():
                exact = phase in ("train", "data", "reference", "generate", "oracle")
                assert spent["phases"][phase][name] >= amount * 0.999, (method, phase, name)
                assert not exact or spent["phases"][phase][name] == amount, (method, phase, name)
        again[method].pop("tuning_ledger"), first[method].pop("tuning_ledger")
        assert again[method] == first[method], method


def test_killed_after_the_last_checkpoint_it_trains_no_step_more(cli: Cli, whole: Path, tmp_path: Path) -> None:
    """The work folder of a finished training comes back with all its checkpoints, as if the rename had not happened."""
    import shutil

    shutil.copytree(whole / ".sail-bench", tmp_path / ".sail-bench")
    stages = tmp_path / ".sail-bench" / "stages"
    victims = [
        p for p in stages.glob("train-*") if json.loads((p / "manifest.json").read_text())["inputs"]["seed"] == 0
    ]
    before = {}
    for path in victims:
        manifest = json.loads((path / "manifest.json").read_text())
        before[path.name] = manifest["ledger"]["phases"]["train"] | {"log": (path / "log.json").read_text()}
        for name in ("manifest.json", "log.json"):
            (path / name).unlink()
        shutil.rmtree(path / "policy")
        path.rename(tmp_path / ".sail-bench" / "work" / path.name)
    for path in [*stages.glob("tune-*"), *stages.glob("answers-*"), *stages.glob("judgments-*")]:
        shutil.rmtree(path)
    assert cli("compare", "tiny", cwd=tmp_path).returncode == 0
    for name, expected in before.items():
        manifest = json.loads((stages / name / "manifest.json").read_text())
        found = manifest["ledger"]["phases"]["train"]
        assert {k: found[k] for k in ("steps", "pairs", "tokens")} == {
            k: expected[k] for k in ("steps", "pairs", "tokens")
        }
    again, first = results(tmp_path), results(whole)
    for method in METHODS:
        assert again[method]["benchmarks"] == first[method]["benchmarks"], method


def test_results_of_another_store_are_replaced(cli: Cli, whole: Path, tmp_path: Path) -> None:
    """A clone's committed results give way to what this machine measured; other settings are refused."""
    import shutil

    shutil.copytree(whole / "results", tmp_path / "results")
    path = tmp_path / "results/tiny/pairs-16/start/seed-0.json"
    poisoned = json.loads(path.read_text())
    poisoned["environment"]["python"] = "9.9"
    path.write_text(json.dumps(poisoned | {"run_key": "theirs"}))
    assert cli("compare", "tiny", "--methods", "start", cwd=tmp_path).returncode == 0
    fresh = json.loads(path.read_text())
    assert fresh["environment"]["python"] != "9.9"
    path.write_text(json.dumps(fresh | {"comparison_key": "other"}))
    done = cli("compare", "tiny", "--methods", "start", cwd=tmp_path)
    assert done.returncode == 2
    assert "made under other settings" in done.stderr


def test_a_subset_of_benchmarks_keeps_the_others(cli: Cli, whole: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(whole, tmp_path / "copy")
    before = results(tmp_path / "copy")
    done = cli("compare", "tiny", "--benchmarks", "mmlu", cwd=tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "copy") == before


def test_one_diverging_trial_does_not_end_the_method(cli: Cli, tmp_path: Path) -> None:
    recipe = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    recipe |= {"name": "half", "tune": {"learning_rates": [1.0e-3, 1.0e30]}, "methods": ["dpo"]}
    recipe |= {"benchmarks": {"mmlu": {"limit": 4}}}
    (tmp_path / "half.yaml").write_text(yaml.safe_dump(recipe))
    assert cli("compare", "half.yaml", cwd=tmp_path).returncode == 0
    result = read_result(tmp_path / "results/half/pairs-16/dpo/seed-0.json")
    assert result.learning_rate == 1.0e-3
    assert result.trials[1].gold_reward is None
    assert result.trials[1].error
    assert "diverged" in (tmp_path / "results/half/pairs-16/LEADERBOARD.md").read_text()


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
    recipe |= {"name": "mine", "model": str(tiny_dir), "methods": ["start", "sail-pr"]}
    recipe |= {"train": {"batch_size": 4, "lora": None}, "benchmarks": {"mmlu": {"limit": 4}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    assert cli("compare", "mine.yaml", cwd=tmp_path).returncode == 0
    page = (tmp_path / "results/mine/pairs-16/LEADERBOARD.md").read_text()
    assert str(tiny_dir) not in page
    spent = read_result(tmp_path / "results/mine/pairs-16/sail-pr/seed-0.json").ledger["phases"]
    assert spent["reference"]["tokens"] > 0  # the separate reference of full fine-tuning is metered too
