"""A function in a process of its own, which has torch imported already, within a time limit."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness.run.child import processes


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        code: its exit code; None if its time was over.
        seconds: that it took.
        last: the last line that it wrote.
    """

    code: int | None
    seconds: float
    last: str


def run_limited(work: Callable[..., int], arguments: tuple[Any, ...], log: Path, limit: float) -> Ended:
    """Run a function, and end its process, with all that it started, when its time is over or it has ended itself.

    Args:
        work: a function of a module, which returns the exit code.
        arguments: of it.
        log: gets all that it writes.
        limit: seconds.
    """
    process = processes().Process(target=_in_session, args=(work, arguments, log))
    began = time.monotonic()
    process.start()
    assert process.pid is not None
    try:
        process.join(limit)
        code = process.exitcode
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # it may not have had its session yet
        process.join()
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return Ended(code, time.monotonic() - began, lines[-1][:300] if lines else "")


def _in_session(work: Callable[..., int], arguments: tuple[Any, ...], log: Path) -> None:
    """The process: a session of its own, so that what it starts can be ended with it."""
    os.setsid()
    with log.open("w", encoding="utf-8") as handle:
        for stream in (1, 2):
            os.dup2(handle.fileno(), stream)
    code = work(*arguments)
    sys.stdout.flush()
    sys.exit(code)
