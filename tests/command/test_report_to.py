"""``compare --report-to``, with the real packages offline: what they hold is what the results hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from kit.command import SMALL, Cli, kill_when, write_tiny
from kit.tracker_files import (
    Curves,
    tensorboard_curves,
    tensorboard_texts,
    trackio_curves,
    trackio_rows,
    wandb_curves,
    wandb_records,
)

from harness.run.trackers import tracking
from harness.score.results import RunResult, read_results

pytestmark = pytest.mark.slow
READ: dict[str, Callable[[Path, str], Curves]] = {
    "trackio": lambda folder, project: trackio_curves(folder / "trackio", project),
    "wandb": lambda folder, project: wandb_curves(folder),
    "tensorboard": lambda folder, project: tensorboard_curves(folder / "runs"),
}


def absent(name: str) -> bool:
    spec = find_spec(name)
    return spec is None or spec.origin is None


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test, before its fixtures, where the package of a tracker is absent."""
    return pytest.mark.skipif(absent(name), reason=f"{name} is not installed: pip install '.[trackers]'")


EACH = pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in READ])


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that trackers write to."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "runs"))
    for name in ("WANDB_PROJECT", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@needs("wandb")
def test_a_tracker_that_cannot_be_reached_costs_a_notice(
    offline: Path, tiny_copy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens where wandb would send to. Without a key it is refused before any work."""
    monkeypatch.setattr(tracking, "PATIENCE_S", 3.0)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    done = cli("compare", "tiny", "--report-to", "wandb", cwd=tiny_copy)
    assert done.returncode == 0 and "Leaderboard:" in done.stdout
    assert done.stderr.endswith("wandb did not take everything within 3 s; the same command sends the rest\n")
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(offline / "none"))
    refused = cli("compare", "tiny", "--report-to", "wandb", cwd=tiny_copy)
    assert refused.returncode == 2
    assert refused.stderr.startswith("Error: wandb has no API key on this machine: run `wandb login`, set WANDB_MODE=")


def assert_same(curves: Curves, result: RunResult, run: str) -> None:
    """Every value of the result's training log once, at its step, and every score."""
    log, held = result.train_log, curves[run]
    for name in {name for row in log for name in row} - {"step"}:
        expected = [(number, row[name]) for number, row in enumerate(log, 1) if name in row]
        assert [step for step, _ in held[f"train/{name}"]] == [step for step, _ in expected]
        values = [value for _, value in expected]
        assert [value for _, value in held[f"train/{name}"]] == pytest.approx(values, rel=1e-6, abs=1e-6), name
    for benchmark in result.benchmarks:
        for metric in benchmark.metrics:
            if metric.value is not None:
                held_values = [value for _, value in held[f"eval/{benchmark.benchmark}/{metric.name}"]]
                assert held_values == pytest.approx([metric.value], rel=1e-6)


@EACH
def test_a_finished_comparison_is_reported_once(name: str, offline: Path, tiny_copy: Path, cli: Cli) -> None:
    """Curves of every trial and run, scores, and the table, from what is stored; the second time nothing is added."""
    for _ in range(2):
        done = cli("compare", "tiny", "--report-to", name, cwd=tiny_copy)
        assert done.returncode == 0, done.stderr
        assert name not in done.stderr.lower()
    curves = READ[name](offline, "tiny")
    results = read_results(tiny_copy / "results/local/tiny/pairs-16")
    for result in results:
        assert_same(curves, result, f"tiny/pairs-16/{result.method}/seed-0")
    trials = [run for run in curves if "/trial-" in run]
    assert len(trials) == 8 and "tiny/pairs-16/dpo/seed-0/trial-lr=0.003" in trials
    assert all(len(curves[run]["train/loss"]) == 4 for run in trials)
    summary = json.loads((tiny_copy / "results/local/tiny/pairs-16/summary.json").read_text())
    assert_table(name, offline, results, summary["columns"][0])
    secret = b"0123456789" * 4
    assert not [p for p in (*tiny_copy.rglob("*"), *offline.rglob("*")) if p.is_file() and secret in p.read_bytes()]


def assert_table(name: str, folder: Path, results: list[RunResult], column: dict[str, Any]) -> None:
    """The leaderboard has one row a method, with the value of its result."""
    run = "tiny/pairs-16/leaderboard"
    if name == "tensorboard":
        (text,) = tensorboard_texts(folder / "runs", run, "leaderboard")
        header, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")]
        rows = [dict(zip(header, line, strict=True)) for line in lines]
    elif name == "trackio":
        (values,) = [v for r, _, v in trackio_rows(folder / "trackio", "tiny") if r == run and "leaderboard" in v]
        rows = values["leaderboard"]["_value"]
    else:
        (file,) = folder.glob("wandb/offline-run-*/files/media/table/leaderboard_*.json")
        table = json.loads(file.read_text())
        rows = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
        assert len([r for r, record in wandb_records(folder) if r == run and record.HasField("exit")]) == 1
    assert sorted(row["method"] for row in rows) == sorted(result.method for result in results)
    for result in results:
        (benchmark,) = [b for b in result.benchmarks if b.benchmark == column["benchmark"]]
        (row,) = [row for row in rows if row["method"] == result.method]
        value = benchmark.metric(column["metric"]).value
        assert float(row[f"{column['title']} ({column['unit']})"]) == pytest.approx(value, rel=1e-5)


@pytest.mark.nightly
@EACH
def test_curves_are_live_and_whole_after_a_kill(name: str, offline: Path, tmp_path: Path, cli: Cli) -> None:
    """Rows are there while training goes on; after a kill the same command goes on from the checkpoint, and each row
    is there once."""
    long = {"budgets": {"long": {"axis": "steps", "limit": 60}}, "budget": "long", "methods": ["dpo"]}
    recipe = write_tiny(tmp_path / "live.yaml", **SMALL, **long, report_to=name)
    run = "live/long/dpo/seed-0"

    def live() -> bool:
        try:
            return len(READ[name](offline, "live").get(run, {}).get("train/loss", [])) >= 20
        except Exception:  # noqa: BLE001 - half of a file, or none yet
            return False

    kill_when(tmp_path, ["compare", recipe], live)
    assert not list(tmp_path.glob("results/local/live/long/dpo/*.json"))
    begun = len(READ[name](offline, "live")[run]["train/loss"])
    assert 20 <= begun < 60
    done = cli("compare", recipe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = read_results(tmp_path / "results/local/live/long")
    assert len(result.train_log) == 60
    curves = READ[name](offline, "live")
    assert [step for step, _ in curves[run]["train/loss"]] == list(range(1, 61))
    for metric in ("loss", "rewards/margins", "learning_rate"):
        values = [row[metric] for row in result.train_log]
        assert [value for _, value in curves[run][f"train/{metric}"]] == pytest.approx(values, rel=1e-5, abs=1e-6)
