"""The scripts under ``examples/slurm``, run by a Slurm of this machine alone. ``nox -s slurm`` runs it.

It needs root, and Debian's slurmctld, slurmd, slurm-client and munge; elsewhere it is skipped. There are no GPUs in it.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from kit.comparison import timeless_results
from kit.slurm import Slurm, free_port, slurm, slurm_absent

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(bool(slurm_absent()), reason=slurm_absent()),
]

SCRIPTS = ROOT / "examples" / "slurm"
METHODS = ("start", "dpo", "sail-pr")
RECIPE = ("tiny", "--methods", ",".join(METHODS))
SECONDS = 240


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder with a short name, for the environment that the scripts activate, the store and the results."""
    folder = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))
    activate, command = folder / "venv/bin/activate", folder / "venv/bin/sail-bench"
    activate.parent.mkdir(parents=True)
    activate.write_text(f"export PATH={command.parent}:{Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}\n")
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
    command.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def scheduler(work: Path) -> Iterator[Slurm]:
    variables = {"WORK": work, "VENV": work / "venv", "RAY_PORT": free_port(), "OMP_NUM_THREADS": 1}
    with slurm(work, {name: str(value) for name, value in variables.items()}) as one:
        yield one


def until_training(work: Path) -> None:
    """Wait for the first checkpoint."""
    until = time.monotonic() + SECONDS
    while not any((work / "store").glob("work/train-*/checkpoints/checkpoint-*/ledger.json")):
        printed = "".join(path.read_text() for path in sorted(work.glob("*_*.txt")))
        assert time.monotonic() < until, f"nothing trains: {printed[-2000:]}"
        time.sleep(0.02)


def assert_equal(folder: Path, finished: Path) -> None:
    """The results are those of one process."""
    ours, expected = timeless_results(folder, METHODS), timeless_results(finished, METHODS)
    for method in METHODS:
        assert ours[method]["benchmarks"] == expected[method]["benchmarks"], method
        assert ours[method]["train_log"] == expected[method]["train_log"], method


def test_an_array_of_workers_one_cancelled(finished_tiny: Path, work: Path, scheduler: Slurm) -> None:
    """The worker that trains first is cancelled: it says so, and the other one goes on with its job."""
    driver = scheduler.submit(SCRIPTS / "driver.sh", (), *RECIPE)
    workers = scheduler.submit(SCRIPTS / "workers.sh", ("--array=0-1",))
    until_training(work)
    claims = [path for path in (work / "jobs").glob("*.claim") if path.read_text()]
    assert claims
    scheduler.run("scancel", f"{workers}_0")
    text = scheduler.wait(driver, SECONDS)
    assert "Traceback" not in text
    assert_equal(work, finished_tiny)
    text = scheduler.wait(workers, 60)
    assert "jobs worked through" in text and "Traceback" not in text


def test_ray_inside_a_job_that_is_cancelled_and_submitted_again(
    finished_tiny: Path, work: Path, scheduler: Slurm
) -> None:
    if not importlib.util.find_spec("ray"):
        pytest.skip("Ray is not installed: nox -s slurm installs it")
    options = ("--nodes=1", "--cpus-per-task=2")
    first = scheduler.submit(SCRIPTS / "ray.sh", options, *RECIPE)
    until_training(work)
    scheduler.run("scancel", first)
    text = scheduler.wait(first, 60)
    assert "Traceback" not in text
    assert not list((work / "results").rglob("sail-pr/seed-0.json"))
    text = scheduler.wait(scheduler.submit(SCRIPTS / "ray.sh", options, *RECIPE), SECONDS)
    assert "Traceback" not in text
    assert_equal(work, finished_tiny)
