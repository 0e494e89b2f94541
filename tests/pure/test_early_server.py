"""The server of processes that ``compare`` begins before its own imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main

PROGRAM = """
from multiprocessing import forkserver
from harness.run.child import FORK_SERVER, begun_early, processes

def pid():
    return forkserver._forkserver._forkserver_pid

def work():
    process = processes().Process(target=print, args=("worked",), kwargs={{"flush": True}})
    process.start()
    process.join()

if __name__ == "__main__":
    FORK_SERVER[:] = ["{imported}"]
    {steps}
"""

REFUSED = """
    try:
        with begun_early():
            raise ValueError
    except ValueError:
        print("refused", flush=True)
"""

ON_UNIX = pytest.mark.skipif(sys.platform == "win32", reason="no fork server on Windows")


def run(tmp_path: Path, steps: str, imported: str = "json") -> list[str]:
    """Lines of output of a program, once all who could write to it have ended."""
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(120)\n")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(steps=steps, imported=imported))
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=60, env={"PYTHONPATH": path}, check=False
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@ON_UNIX
def test_a_command_that_is_refused_leaves_no_server(tmp_path: Path) -> None:
    """Not even one whose imports take minutes: it would hold the pipe to the next command open."""
    assert run(tmp_path, REFUSED, "endless") == ["refused"]


@ON_UNIX
def test_a_server_that_was_there_stays(tmp_path: Path) -> None:
    steps = f"work(); first = pid(){REFUSED}    work(); print(pid() == first)"
    assert run(tmp_path, steps) == ["worked", "refused", "worked", "True"]


@ON_UNIX
def test_processes_come_from_it(tmp_path: Path) -> None:
    steps = "with begun_early(): first = pid(); work(); print(first == pid())"
    assert run(tmp_path, steps) == ["worked", "True"]


def test_only_a_new_store_on_this_machine_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere there may be nothing to run, or nothing here; one with too long a name is refused."""
    begun: list[str] = []
    (tmp_path / "old" / "stages").mkdir(parents=True)
    monkeypatch.setattr("harness.run.child.processes", lambda: begun.append("server"))
    for store, more in (("new", []), ("old", []), (300 * "n", []), ("new", ["--cluster", "slurm"])):
        given = ["compare", "tiny", "--store", str(tmp_path / store), "--budget", "", *more]
        assert CliRunner().invoke(main, given).exit_code == 2
    assert begun == ["server"]
