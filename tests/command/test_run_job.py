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
from kit.command import SAIL_BENCH, SMALL, Cli, write_tiny
from kit.comparison import timeless_results

from harness.run import job_folder

METHODS = ("start", "dpo")


def worker(folder: Path, cwd: Path) -> subprocess.Popen[bytes]:
    command = [*SAIL_BENCH, "run-job", str(folder), "--idle-minutes", "2"]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.nightly
def test_workers_of_a_folder_give_the_results_of_one_machine(
    finished_tiny: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two workers the first is killed once there is a checkpoint; the other goes on from there."""
    monkeypatch.setattr(job_folder, "LOST_S", 20.0)
    folder, store = tmp_path / "jobs", tmp_path / ".sail-bench"
    folder.mkdir()
    first, second = (worker(folder, tmp_path) for _ in range(2))

    def kill_the_first() -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            if any(store.glob("work/train-*/checkpoints/checkpoint-*/ledger.json")):
                os.kill(first.pid, signal.SIGKILL)
                return
            time.sleep(0.005)

    thread = threading.Thread(target=kill_the_first)
    thread.start()
    where = ["--cluster", f"jobs:{folder}", "--workers", "2"]
    done = cli("compare", "tiny", "--methods", ",".join(METHODS), *where, cwd=tmp_path)
    thread.join()
    assert done.returncode == 0, done.stderr
    assert "was lost: another goes on from the last checkpoint" in done.stderr
    assert (first.wait(60), second.wait(60)) == (-signal.SIGKILL, 0), "workers end with the comparison"
    again, expected = timeless_results(tmp_path, METHODS), timeless_results(finished_tiny, METHODS)
    for method in METHODS:
        assert again[method]["benchmarks"] == expected[method]["benchmarks"], method
        assert again[method]["train_log"] == expected[method]["train_log"], method
    assert sorted(path.name for path in folder.iterdir()) == ["over"]


@pytest.mark.slow
def test_jobs_by_hand_leave_their_results_to_compare(cli: Cli, tmp_path: Path) -> None:
    """Two files in a few lines; after them `compare` has nothing left to do but to write the results."""
    recipe = write_tiny(tmp_path / "small.yaml", **SMALL, methods=["start", "dpo"])
    for method in ("start", "dpo"):
        job = {"recipe": str(recipe), "method": method, "store": str(tmp_path / ".sail-bench")}
        (tmp_path / f"{method}.json").write_text(json.dumps(job))
        done = cli("run-job", f"{method}.json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "results").exists()
    done = cli("compare", recipe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dpo seed 0: already done" in done.stderr


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
