"""``leaderboard --check`` finds a number in a result file that its own per-item columns do not give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from kit.command import run_here
from kit.committed import committed_files

from harness.judge.card_check import edited_card
from harness.score.recheck import edited_numbers
from harness.score.results import LOCAL, result_folders

FOLDER = ROOT / "results" / "smollm2" / "pairs-64"


def metric(run: dict[str, Any], benchmark: str, name: str) -> dict[str, Any]:
    result = next(b for b in run["benchmarks"] if b["benchmark"] == benchmark)
    return next(m for m in result["metrics"] if m["name"] == name)


def raise_value(run: dict[str, Any]) -> None:
    metric(run, "preference", "gold_reward")["value"] += 0.01


def narrow_interval(run: dict[str, Any]) -> None:
    metric(run, "alpaca_eval", "lc")["low"] += 0.1


def widen_interval(run: dict[str, Any]) -> None:
    metric(run, "preference", "gold_reward")["high"] += 0.01


def find_less(run: dict[str, Any]) -> None:
    metric(run, "arena_hard", "sc")["mdd"] = 0.1


def hide_missing(run: dict[str, Any]) -> None:
    metric(run, "mmlu", "acc")["n_valid"] -= 3


def no_value(run: dict[str, Any]) -> None:
    metric(run, "preference", "kl")["value"] = None


def flip_item(run: dict[str, Any]) -> None:
    rewards = next(b for b in run["benchmarks"] if b["benchmark"] == "preference")["items"]["items"]["reward"]
    rewards[0] = 1.0 - rewards[0]


def other_protocol(run: dict[str, Any]) -> None:
    next(b for b in run["benchmarks"] if b["benchmark"] == "curve")["protocol"]["version"] = 99


def other_column(run: dict[str, Any]) -> None:
    metric(run, "preference", "gold_reward")["estimator"]["column"] = "nothing"


def other_rate(run: dict[str, Any]) -> None:
    run["learning_rate"] = 0.123


def spend_less(run: dict[str, Any]) -> None:
    run["overshoot"] = -1.0


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (raise_value, "benchmarks.preference.metrics.gold_reward.value"),
        (narrow_interval, "benchmarks.alpaca_eval.metrics.lc.low"),
        (widen_interval, "benchmarks.preference.metrics.gold_reward.high"),
        (find_less, "benchmarks.arena_hard.metrics.sc.mdd"),
        (hide_missing, "benchmarks.mmlu.metrics.acc.n_valid"),
        (no_value, "benchmarks.preference.metrics.kl.value"),
        (flip_item, "benchmarks.preference.metrics.gold_reward.value"),
        (other_protocol, "benchmarks.curve.protocol_hash"),
        (other_column, "benchmarks.preference.metrics.gold_reward.estimator"),
        (other_rate, "learning_rate"),
        (spend_less, "overshoot"),
    ],
)
def test_an_edited_number_is_named(edit: Callable[[dict[str, Any]], None], key: str, tmp_path: Path) -> None:
    path = tmp_path / "dpo" / "seed-0.json"
    path.parent.mkdir()
    run = json.loads((FOLDER / "dpo" / "seed-0.json").read_text())
    path.write_text(json.dumps(run))
    assert edited_numbers(tmp_path) == []
    edit(run)
    path.write_text(json.dumps(run))
    sentences = edited_numbers(tmp_path)
    assert any(f"{path}: {key} is " in sentence for sentence in sentences), sentences


def test_the_check_fails_on_an_edited_value(tmp_path: Path) -> None:
    """The page is made from the columns, so that it stays the same: only this check sees the edit."""
    folder = tmp_path / "results" / "smollm2" / "pairs-64"
    shutil.copytree(FOLDER, folder)
    shutil.copytree(ROOT / "results" / "judges", tmp_path / "results" / "judges")
    shutil.copy(ROOT / "results" / "smollm2.yaml", tmp_path / "results")  # a page names its recipe's file
    assert run_here("leaderboard", "--check", cwd=tmp_path).returncode == 0
    path = folder / "sail-pr" / "seed-0.json"
    run = json.loads(path.read_text())
    raise_value(run)
    path.write_text(json.dumps(run))
    failed = run_here("leaderboard", "--check", cwd=tmp_path)
    assert failed.returncode == 1
    assert "gold_reward.value is " in failed.stderr
    assert "sail-pr" in failed.stderr
    assert "LEADERBOARD.md" not in failed.stderr


def test_committed_results_hold() -> None:
    folders = {path.parent.parent for path in committed_files(ROOT / "results")}
    assert folders
    for folder in folders:
        assert edited_numbers(folder) == []


def test_the_command_reads_every_committed_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    folders = {folder for folder in result_folders(None) if not folder.is_relative_to(LOCAL)}
    assert {path.relative_to(ROOT).parent.parent for path in committed_files(ROOT / "results")} == folders


def test_studies_are_checked_and_own_results_left_out(tmp_path: Path) -> None:
    study = tmp_path / "results" / "studies" / "axes" / "steps-8"
    shutil.copytree(ROOT / "results" / "studies" / "axes" / "steps-8", study)
    shutil.copy(ROOT / "results" / "studies" / "axes.yaml", tmp_path / "results" / "studies")
    own = tmp_path / LOCAL / "axes" / "steps-8"
    shutil.copytree(study, own)
    (own / "LEADERBOARD.md").write_text("of an earlier version")
    whole = run_here("leaderboard", "--check", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "1 of your own left out: sail-bench leaderboard --check --results results/local" in whole.stdout
    failed = run_here("leaderboard", "--check", "--results", LOCAL, cwd=tmp_path)
    assert failed.returncode == 1 and f"{LOCAL}/axes/steps-8/LEADERBOARD.md" in failed.stderr
    path = study / "dpo" / "seed-1.json"
    run = json.loads(path.read_text())
    raise_value(run)
    path.write_text(json.dumps(run))
    failed = run_here("leaderboard", "--check", cwd=tmp_path)
    assert failed.returncode == 1 and "results/studies/axes/steps-8/dpo/seed-1.json: benchmarks." in failed.stderr


@pytest.mark.parametrize(("field", "by"), [("value", 1.0), ("low", 0.1), ("high", -0.1), ("n_valid", 1)])
def test_an_edited_figure_of_a_judge_card_is_named(field: str, by: float, tmp_path: Path) -> None:
    path = Path(shutil.copytree(ROOT / "results" / "judges", tmp_path / "judges")) / "38dec49e1b05fe79.json"
    assert edited_card(path) == []
    card = json.loads(path.read_text())
    card["sections"][0]["metrics"][0][field] += by
    path.write_text(json.dumps(card))
    (sentence,) = edited_card(path)
    assert f".metrics.agreement.{field} is {card['sections'][0]['metrics'][0][field]}" in sentence
