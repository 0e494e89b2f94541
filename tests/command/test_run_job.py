"""``compare --cluster jobs:FOLDER`` with workers of ``run-job``: the results of one machine, one worker killed too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from kit.command import SAIL_BENCH, Cli
from kit.comparison import timeless_results

from harness.run import job_folder

METHODS = ("start", "dpo")


def worker(folder: Path, cwd: Path) -> subprocess.Popen[bytes]:
    command = [*SAIL_BENCH, "run-job", str(folder), "--idle-minutes", "2"]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_workers_of_a_folder_give_the_results_of_one_machine(
    finished_tiny: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker is killed once it has a checkpoint; the second goes on from there."""
    monkeypatch.setattr(job_folder, "LOST_S", 12.0)
    monkeypatch.setattr("harness.run.job_folder.LOOK_S", 0.05)
    folder, store = tmp_path / "jobs", tmp_path / ".sail-bench"
    folder.mkdir()
    first, others = worker(folder, tmp_path), []

    def replace_the_first() -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and first.poll() is None:
            if any(store.glob("work/train-*/checkpoints/checkpoint-*/ledger.json")):
                os.kill(first.pid, signal.SIGKILL)
                others.append(worker(folder, tmp_path))
                return
            time.sleep(0.005)

    thread = threading.Thread(target=replace_the_first)
    thread.start()
    done = cli("compare", "tiny", "--methods", ",".join(METHODS), "--cluster", f"jobs:{folder}", cwd=tmp_path)
    thread.join()
    assert done.returncode == 0, done.stderr
    assert "was lost: another worker goes on from the last checkpoint" in done.stderr
    assert others[0].wait(60) == 0, "it ends with the comparison"
    again, expected = timeless_results(tmp_path, METHODS), timeless_results(finished_tiny, METHODS)
    for method in METHODS:
        for part in ("benchmarks", "train_log", "stages"):
            assert again[method].get(part) == expected[method].get(part), (method, part)
    assert sorted(path.name for path in folder.iterdir()) == ["driver.lock", "over"]


def test_a_job_of_other_versions_is_refused(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"versions": {"sail-bench": "0.0.1"}, "job": {}}))
    for path in (file, tmp_path):
        done = cli("run-job", path, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "the driver has sail-bench 0.0.1" in done.stderr
        assert not file.with_suffix(".claim").exists()


def test_clusters_that_cannot_be(cli: Cli, tmp_path: Path) -> None:
    cases = {("moon",): "--cluster moon names no cluster", ("jobs:",): "names no cluster"}
    cases[("jobs:x", "--workers", "0")] = "--workers 0 is no number of workers"
    for words, sentence in cases.items():
        done = cli("compare", "tiny", "--cluster", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert sentence in done.stderr
    absent = cli("run-job", tmp_path / "absent.json", cwd=tmp_path)
    assert absent.returncode == 2
    assert "does not exist" in absent.stderr
