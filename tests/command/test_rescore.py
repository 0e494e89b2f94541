"""``rescore`` fixes scores from stored judgments or from the result file's own columns, without torch or a judge."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from kit.command import Cli, run_here

from harness.report.leaderboard import stale_files
from harness.score import estimators
from harness.score.results import read_result

COMMITTED = ROOT / "results" / "smollm2" / "pairs-64"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A results folder with three committed runs."""
    for method in ("start", "dpo", "sail-pr"):
        folder = tmp_path / "results" / "smollm2" / "pairs-64" / method
        folder.mkdir(parents=True)
        shutil.copy(COMMITTED / method / "seed-0.json", folder)
    return tmp_path / "results"


def run(*arguments: object, code: int = 0) -> str:
    done = run_here("rescore", *arguments)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def tamper(path: Path, benchmark: str, metric: str, **changes: float) -> None:
    value = json.loads(path.read_text())
    scored = next(b for b in value["benchmarks"] if b["benchmark"] == benchmark)
    next(m for m in scored["metrics"] if m["name"] == metric).update(changes)
    path.write_text(json.dumps(value))


def test_committed_results_do_not_change(copied: Path) -> None:
    before = {p: p.read_bytes() for p in copied.rglob("seed-*.json")}
    assert before
    output = run("--results", copied, "--store", copied / "no-store")
    assert output.count("unchanged") == 3
    assert {p: p.read_bytes() for p in copied.rglob("seed-*.json")} == before
    assert stale_files(copied / "smollm2" / "pairs-64") == []


def test_a_tampered_value_is_fixed_from_the_columns(copied: Path) -> None:
    path = copied / "smollm2/pairs-64/dpo/seed-0.json"
    whole = json.loads(path.read_text())
    result = read_result(path)
    tamper(path, "preference", "gold_reward", value=0.99, low=0.98, n_valid=7)
    output = run("smollm2", "--results", copied)
    line = next(row for row in output.split("\n") if "dpo/" in row)
    assert "(from its columns): preference gold_reward: 0.99 [0.98, " in line
    assert output.count("unchanged") == 2
    assert read_result(path) == result  # a file of an older release gets the fields that came since, empty
    scored = next(b for b in whole["benchmarks"] if b["benchmark"] == "preference")
    reward = next(m for m in scored["metrics"] if m["name"] == "gold_reward")
    assert reward["value"] == pytest.approx(np.mean(scored["items"]["items"]["reward"]), abs=1e-6)
    assert f"-> {reward['value']} [{reward['low']}, {reward['high']}]" in line


def test_a_changed_estimator_shows(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(estimators.ESTIMATORS, "mean", lambda columns, name, w: 2 * estimators.mean(columns, name, w))
    path = copied / "smollm2/pairs-64/start/seed-0.json"
    old = json.loads(path.read_text())
    output = run("--results", copied)
    assert output.count("preference gold_reward") == 3
    new = json.loads(path.read_text())
    value = [r["benchmarks"][0]["metrics"][0]["value"] for r in (old, new)]
    assert value[1] == pytest.approx(2 * value[0], abs=2e-6)
    assert new["ledger"] == old["ledger"]
    assert new["run_key"] == old["run_key"]


def test_what_is_missing_is_named(copied: Path) -> None:
    assert "did you mean 'smollm2'" in run("smolm2", "--results", copied, code=2)
    assert "holds no results" in run("--results", copied / "none", code=2)


def test_no_torch_and_no_judge(copied: Path) -> None:
    """In a process of its own, which may open no connection either."""
    code = (
        "import sys, socket; from pathlib import Path; from harness.run.rescore import rescore\n"
        "socket.socket.connect = None\n"
        "rescore(None, Path(sys.argv[1]), Path('none'), print)\n"
        "print(sorted({'torch', 'transformers', 'openai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, copied], capture_output=True, text=True, check=True)
    assert done.stdout.strip().split("\n")[-1] == "[]"


@pytest.mark.slow
def test_a_comparison_is_scored_from_its_stored_judgments(tiny_copy: Path, cli: Cli) -> None:
    folder = tiny_copy / "results/local/tiny/pairs-16"
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    tamper(folder / "dpo/seed-0.json", "mt_bench", "rating", value=9.0)
    value = json.loads((folder / "start/seed-0.json").read_text())
    value["benchmarks"][0]["items"]["items"]["reward"][0] = 5.0  # no column: judgments alone can fix this
    (folder / "start/seed-0.json").write_text(json.dumps(value))
    again = cli("rescore", cwd=tiny_copy)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("(from stored judgments)") == 5
    assert "mt_bench rating: 9.0 [" in again.stdout
    assert "start/seed-0.json (from stored judgments): columns or titles changed" in again.stdout
    assert "2 result file(s) changed" in again.stdout
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == files
    shutil.rmtree(tiny_copy / ".sail-bench/stages")
    again = cli("rescore", cwd=tiny_copy)
    assert again.stdout.count("(from its columns): unchanged") == 5
