"""Processes that stand for other hosts: real ones, each under a host's name of its own (``SAIL_BENCH_HOST``)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from harness.store import leases
from harness.store.hosts import HOST

ROOT = Path(__file__).parents[2]

BEGIN = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def wait_for(name):
    while not (folder / name).exists():
        time.sleep(0.002)
"""


class Process:
    """A process on a host.

    Args:
        host: its name.
        code: Python; ``folder`` is there, and ``wait_for(name)``, which waits for a file in it.
        folder: that the processes share.
    """

    def __init__(self, host: str, code: str, folder: Path) -> None:
        command = [sys.executable, "-c", BEGIN + code, str(folder)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {HOST: host}, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._output: IO[str] = self._process.stdout
        self.number = self._process.pid

    def line(self) -> str:
        """Its next line, without the end."""
        return self._output.readline().rstrip("\n")

    def lines(self) -> list[str]:
        """What it prints until it ends.

        Raises:
            AssertionError: it fails.
        """
        output, _ = self._process.communicate(timeout=120)
        assert self._process.returncode == 0
        return output.splitlines()

    def kill(self) -> list[str]:
        """End it at once, with no chance to tidy up; what it had printed."""
        self._process.kill()
        return self._process.communicate()[0].splitlines()


def stand_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process run on a host of the name ``here``, and look at other hosts' heartbeats each time."""
    monkeypatch.setenv(HOST, "here")
    monkeypatch.setattr(leases, "SEEN_S", 0.0)


def grow_old(folder: Path, host: str, seconds: float) -> None:
    """Let the last heartbeat of a host's processes be so long ago."""
    for session in folder.glob(f"sessions/{host}-*"):
        then = session.stat().st_mtime - seconds
        os.utime(session, (then, then))
