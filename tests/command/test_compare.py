"""The recipe `tiny` by the real command: whole, repeated, in part, and with runs that fail."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from kit.command import SMALL, Cli, tiny_recipe, write_tiny
from kit.comparison import TINY_METHODS, timeless_results

from harness.score.results import read_result

pytestmark = pytest.mark.slow


def test_everything_is_there_and_typed(finished_tiny: Path) -> None:
    folder = finished_tiny / "results" / "local" / "tiny" / "pairs-16"
    for method in TINY_METHODS:
        result = read_result(folder / method / "seed-0.json")
        assert result.status == "ok"
        assert [b.benchmark for b in result.benchmarks] == list(tiny_recipe()["benchmarks"])
        assert all(len(b.protocol_hash) == 16 for b in result.benchmarks)
        assert all(b.judge for b in result.benchmarks if b.benchmark in ("mt_bench", "alpaca_eval", "arena_hard"))
        assert set(result.stages) == {"policy", *tiny_recipe()["benchmarks"]}
        stages = finished_tiny / ".sail-bench" / "stages"
        assert all((stages / key / "manifest.json").is_file() for key in result.stages.values())
        trains = method != "start"
        assert len(result.trials) == 2 * trains
        assert result.ledger["phases"].get("train", {}).get("pairs", 0) == 16 * trains
        bought, pairs = len(result.ledger.get("bought", [])), result.data["train"]["pairs"]
        assert (bought > 0) == trains
        calls = 24 * 4 * bought / pairs  # all answers to the training prompts, shared out over the pairs
        assert result.ledger["phases"].get("data", {}).get("calls", 0) == pytest.approx(calls, abs=0.5)
    page = (folder / "LEADERBOARD.md").read_text()
    assert all(f"| `{m}` |" in page for m in TINY_METHODS)
    assert (folder / "reward-kl.svg").is_file()
    assert (folder / "cost.svg").is_file()
    assert json.loads((folder / "summary.json").read_text())["sentences"]


def test_every_method_trained_on_the_same_ids(finished_tiny: Path) -> None:
    assert len({str(result["data"]) for result in timeless_results(finished_tiny).values()}) == 1
    train = [json.loads(p.read_text()) for p in (finished_tiny / ".sail-bench/stages").glob("train-*/manifest.json")]
    assert len(train) == 8
    assert len({m["inputs"]["pairs"] for m in train}) == 1
    tokens = {m["ledger"]["phases"]["train"]["tokens"] for m in train if m["inputs"]["method"][0] in ("dpo", "sail-dp")}
    assert len(tokens) == 1


def test_the_same_command_again_loads_no_model(tiny_copy: Path, cli_process: Cli) -> None:
    """As a user runs it: in a process of its own, which would have to import everything to do anything."""
    before = stage_and_result_times(tiny_copy)
    began = time.monotonic()
    done = cli_process("compare", "tiny", cwd=tiny_copy)
    assert done.returncode == 0
    assert time.monotonic() - began < 15
    assert [line.split(":")[0].split("] ")[1] for line in done.stderr.splitlines() if line.startswith("[")] == [
        f"{method} seed 0" for method in TINY_METHODS
    ], "each run once"
    assert done.stderr.count("already done") == len(TINY_METHODS)
    assert " · train" not in done.stderr
    assert before == stage_and_result_times(tiny_copy)


def test_a_result_that_was_changed_since_is_written_again(tiny_copy: Path, cli: Cli) -> None:
    """One digit of an interval, in a file that is still whole JSON of the right shape."""
    (path,) = tiny_copy.glob("results/local/tiny/*/dpo/seed-0.json")
    whole = path.read_text()
    result = json.loads(whole)
    metric = result["benchmarks"][0]["metrics"][0]
    metric["high"] += 0.1
    path.write_text(json.dumps(result))
    assert cli("compare", "tiny", cwd=tiny_copy).returncode == 0
    assert path.read_text() == whole


def stage_and_result_times(folder: Path) -> dict[Path, int]:
    """When each JSON file was written, but for those of the page, which a copied folder gets anew."""
    of_page = {"summary.json", *(path.name for path in folder.glob(".sail-bench/pages/*.json"))}
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*.json") if p.name not in of_page}


def test_leaderboard_from_results_alone(finished_tiny: Path, cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(finished_tiny / "results", tmp_path / "results")
    page = tmp_path / "results/local/tiny/pairs-16/LEADERBOARD.md"
    assert cli("leaderboard", "--check", cwd=tmp_path).returncode == 0
    original = page.read_text()
    page.write_text(original + "edited")
    failed = cli("leaderboard", "--check", cwd=tmp_path)
    assert failed.returncode == 1
    assert "LEADERBOARD.md" in failed.stderr
    assert cli("leaderboard", "tiny", cwd=tmp_path).returncode == 0
    assert page.read_text() == original


def test_results_of_another_store_are_replaced(cli: Cli, tiny_copy: Path) -> None:
    """Results of an earlier store give way to what this machine measured; other settings are refused."""
    path = tiny_copy / "results/local/tiny/pairs-16/start/seed-0.json"
    ours = json.loads(path.read_text())
    theirs = ours | {"environment": ours["environment"] | {"python": "9.9"}, "run_key": "theirs"}
    path.write_text(json.dumps(theirs))
    assert cli("compare", "tiny", "--methods", "start", cwd=tiny_copy).returncode == 0
    assert json.loads(path.read_text()) == ours
    path.write_text(json.dumps(ours | {"comparison_key": "other"}))
    done = cli("compare", "tiny", "--methods", "start", cwd=tiny_copy)
    assert done.returncode == 2
    assert "made under other settings" in done.stderr


def test_a_subset_of_benchmarks_keeps_the_others(cli: Cli, tiny_copy: Path) -> None:
    before = timeless_results(tiny_copy)
    done = cli("compare", "tiny", "--benchmarks", "mmlu", cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    assert timeless_results(tiny_copy) == before


def test_one_diverging_trial_does_not_end_the_method(cli: Cli, tiny_copy: Path) -> None:
    tune, benchmarks = {"learning_rates": [1.0e-3, 1.0e30]}, {"mmlu": {"limit": 4}}
    write_tiny(tiny_copy / "half.yaml", tune=tune, methods=["dpo"], benchmarks=benchmarks)
    assert cli("compare", "half.yaml", cwd=tiny_copy).returncode == 0
    result = read_result(tiny_copy / "results/local/half/pairs-16/dpo/seed-0.json")
    assert result.learning_rate == 1.0e-3
    assert result.trials[1].gold_reward is None
    assert result.trials[1].error
    assert "diverged" in (tiny_copy / "results/local/half/pairs-16/LEADERBOARD.md").read_text()
    assert not list(tiny_copy.glob(".sail-bench/*/train-*/checkpoints")), "of the diverged trial neither"


def test_a_failing_run_gets_a_row_and_the_others_finish(cli: Cli, tiny_copy: Path) -> None:
    """A learning rate that makes the weights explode: the loss is no number, and the row says so."""
    changes = {"tune": {"learning_rates": [1.0e30]}, "benchmarks": {"mmlu": {"limit": 4}}}
    write_tiny(tiny_copy / "bad.yaml", **changes, methods=["start", "dpo"])
    stages = set(tiny_copy.glob(".sail-bench/stages/train-*"))
    done = cli("compare", "bad.yaml", cwd=tiny_copy)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "seed 0" in line and not line.startswith("- ")]
    assert [line[:18] for line in lines] == ["[1/2] start seed 0", "[2/2] dpo seed 0: "], "one line a run"
    assert done.stderr.startswith("bad, budget pairs-16: 2 runs, predicted to take ")
    page = (tiny_copy / "results/local/bad/pairs-16/LEADERBOARD.md").read_text()
    assert "<summary>Failed runs</summary>" in page
    assert "`start`" in page
    assert read_result(tiny_copy / "results/local/bad/pairs-16/dpo/seed-0.json").status == "failed"
    assert set(tiny_copy.glob(".sail-bench/stages/train-*")) == stages


def test_a_model_directory_is_a_start_policy(cli: Cli, tiny_dir: Path, tmp_path: Path) -> None:
    train, benchmarks = {"batch_size": 4, "lora": None, "checkpoints": 1}, {"mmlu": {"limit": 4}}
    changes = SMALL | {"train": train, "benchmarks": benchmarks}
    write_tiny(tmp_path / "mine.yaml", **changes, model=str(tiny_dir), methods=["start", "sail-pr"])
    assert cli("compare", "mine.yaml", cwd=tmp_path).returncode == 0
    page = (tmp_path / "results/local/mine/pairs-16/LEADERBOARD.md").read_text()
    assert str(tiny_dir) not in page
    spent = read_result(tmp_path / "results/local/mine/pairs-16/sail-pr/seed-0.json").ledger["phases"]
    assert spent["reference"]["tokens"] > 0  # the separate reference of full fine-tuning is metered too
