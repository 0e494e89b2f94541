"""``sail-bench`` in processes of its own that begin with the libraries imported, so that hundreds can be killed.

A command is a fork of this process, and its fork server is a fork of the command, where it would be a new interpreter
that imports torch. Everything else is as it is from a shell: a session of its own, the same tree of processes, the same
signals.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import forkserver, process, resource_tracker, util
from pathlib import Path
from typing import Any

import psutil

import harness.run.preload  # noqa: F401 - what the fork server imports
from harness.cli import main
from harness.run.child import FORK_SERVER

SETTLING_S = 10.0
"""Seconds after which nothing of a command that has ended may be alive."""


class Command:
    """A command that has begun.

    Args:
        folder: it works in.
        arguments: of ``sail-bench``.
        log: gets its output; it is added to.
    """

    def __init__(self, folder: Path, arguments: Sequence[object], log: Path) -> None:
        self.log, self.code = log, None
        self._from = log.stat().st_size if log.exists() else 0
        self.began = time.monotonic()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.pid = os.fork()
        if not self.pid:
            _be_command(folder, [str(argument) for argument in arguments], log)
        self._seen: set[psutil.Process] = set()

    code: int | None
    """Exit code; negative for a signal; None while it runs."""

    @property
    def output(self) -> str:
        """What it has written."""
        return self.log.read_bytes()[self._from :].decode(errors="replace")

    def running(self) -> bool:
        """Whether it has not ended yet."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended.

        Args:
            seconds: at most.

        Returns:
            whether it has ended.
        """
        end = time.monotonic() + seconds
        while self.running() and time.monotonic() < end:
            time.sleep(0.005)
        return not self.running()

    def children(self) -> list[psutil.Process]:
        """Processes that it started, with theirs, the newest last."""
        with suppress(psutil.Error):
            found = psutil.Process(self.pid).children(recursive=True)
            self._seen |= set(found)
            return sorted(found, key=lambda child: child.create_time())
        return []

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to it, or to all of its processes.

        Args:
            number: of the signal.
            group: whether all are meant.
        """
        self.children()
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self) -> list[str]:
        """End what is left of it.

        Returns:
            names of processes that were alive long after it had ended by itself or by a signal.
        """
        ended = self.wait(0)
        until = time.monotonic() + SETTLING_S
        while (left := [child for child in self._seen if _alive(child)]) and ended and time.monotonic() < until:
            time.sleep(0.005)
        names = [f"process {child.pid} ran on" for child in left if ended]
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(SETTLING_S)
        return names


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _be_command(folder: Path, arguments: list[str], log: Path) -> None:
    """What the fork does: it never returns."""
    code: Any = 1
    try:
        os.setsid()
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, stream in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(source, stream)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        weakref.finalize._registry.clear()  # type: ignore[attr-defined] # what the process that forked it will remove
        _forget_processes()
        util.spawnv_passfds = _fork_server  # type: ignore[assignment]
        sys.argv = ["sail-bench", *arguments]
        main(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    with suppress(BaseException):
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


_spawn = util.spawnv_passfds


def _fork_server(path: Any, arguments: list[str], passed: Sequence[int]) -> int:
    """Start a helper of multiprocessing: the fork server by a fork, the others as ever."""
    if "multiprocessing.forkserver" not in arguments[-1]:
        return int(_spawn(path, arguments, passed))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        kept = sorted({0, 1, 2, *passed})
        for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        _forget_processes()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a new interpreter
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        exec(arguments[-1], {})
    except SystemExit:
        pass
    except BaseException as error:  # noqa: BLE001 - as the interpreter would
        sys.excepthook(type(error), error, error.__traceback__)
    os._exit(0)


def _forget_processes() -> None:
    """Let multiprocessing begin anew, as in a new interpreter."""
    forkserver._forkserver.__init__()  # type: ignore[misc]
    forkserver._forkserver.set_forkserver_preload(FORK_SERVER)
    resource_tracker._resource_tracker.__init__()  # type: ignore[misc]
    process._children = set()  # type: ignore[attr-defined]
    process._parent_process = None  # type: ignore[attr-defined] # a run that trains in several processes has one
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
