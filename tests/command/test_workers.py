"""Runs side by side: the same results, one process lost is one row lost, and what workers share is shared."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from kit.command import SMALL, Cli, write_tiny
from kit.comparison import timeless_results

from harness.score.results import read_result


def kill_worker(store: Path, of: str) -> threading.Thread:
    """Kill -9 of the process that trains a method, as soon as it has a checkpoint."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            workers = [p for p in multiprocessing.active_children() if f"-{of}-" in p.name]
            if workers and any(store.glob("work/train-*/checkpoints/checkpoint-*/ledger.json")):
                os.kill(workers[0].pid or 0, signal.SIGKILL)
                return
            time.sleep(0.005)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("short_s", [3600.0, 0.0], ids=["by run", "taken apart"])
def test_two_workers_give_the_results_of_one(
    short_s: float, finished_tiny: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two simulated devices. Of the worker that is killed on the way only its row is lost, until the next call."""
    monkeypatch.setattr("harness.run.compare.SHORT_S", short_s)
    monkeypatch.setenv("SAIL_BENCH_DEVICES", "2")
    methods = ("start", "sail-pr")
    compare = ["compare", "tiny", "--methods", ",".join(methods), "--workers", "auto"]
    killer = kill_worker(tmp_path / ".sail-bench", "sail-pr")
    first = cli(*compare, cwd=tmp_path)
    killer.join()
    assert first.returncode == 1
    assert (
        "sail-pr seed 0: the process ended without a result (SIGKILL; out of memory? lower --workers (2)"
        in first.stderr
    )
    folder = tmp_path / "results/local/tiny/pairs-16"
    assert read_result(folder / "start/seed-0.json").status == "ok"
    again = cli(*compare, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert timeless_results(tmp_path, methods) == timeless_results(finished_tiny, methods)
    environment = read_result(folder / "sail-pr/seed-0.json").environment
    assert environment["workers"] == 2
    assert environment["threads"] == int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def test_workers_that_cannot_be(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence each, before any work."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    timed = {"budgets": {"s": {"axis": "seconds", "limit": 5}}, "budget": "s", "methods": ["start", "dpo"]}
    recipe = write_tiny(tmp_path / "timed.yaml", **SMALL | timed)
    cases = {
        ("--workers", "2"): "this budget counts seconds",
        ("--workers", "0"): "--workers 0 is no number of workers",
        ("--workers", "many"): "--workers many is no number of workers",
    }
    for flags, words in cases.items():
        refused = cli("compare", recipe, *flags, cwd=tmp_path)
        assert refused.returncode == 2
        assert words in refused.stderr
    monkeypatch.setenv("SAIL_BENCH_DEVICES", "2")
    assert "--workers 3 on 2 GPUs slows" in cli("compare", recipe, "--workers", "3", cwd=tmp_path).stderr
    monkeypatch.setenv("WORLD_SIZE", "4")
    launched = cli("compare", recipe, cwd=tmp_path)
    assert launched.returncode == 2
    assert "4 copies of it were started" in launched.stderr
    assert not (tmp_path / ".sail-bench").exists()
