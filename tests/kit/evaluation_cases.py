"""The inputs of ``shared/cases/evaluation`` that went wrong once, and the scripted judge there."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CASES = Path(__file__).parent.parent.parent.parent / "shared" / "cases" / "evaluation"


def cases(*parts: str) -> Path:
    """A file or folder of the cases; the test is skipped with a reason where they are absent (a user's clone)."""
    path = CASES.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"evaluation cases absent: {'/'.join(parts)}")
    return path


@contextmanager
def scripted_judge() -> Iterator[str]:
    """The address of the scripted judge, on a port of its own. The model's name says how it behaves."""
    script = cases("judge_server.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(script), str(port)])
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()
