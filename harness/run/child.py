"""Processes that a command begins: their log, and their end with the process that began them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

from harness.store.foreign_text import CleanLog

FORK_SERVER = ["harness.run.fork_server", "harness.run.preload", "harness.cli"]
"""Modules that a fork server imports: each process that it begins imports the script of the command line again."""

REASON_LETTERS = 500
"""Of the message of an error that a process ended with, at most."""


def write_output_to(path: Path) -> None:
    """Let all output of this process go to the log of its run. What Python code writes holds no key and is inert."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout, sys.stderr = CleanLog.of(1), CleanLog.of(2)


def die_with_parent() -> None:
    """End this process when the one that began it ends."""
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def holding_ctrl_c() -> Iterator[None]:
    """Hold Ctrl-C back from this thread, and from the interpreters that start meanwhile until they ignore it.

    In the first moments of a new interpreter Ctrl-C would end it with a traceback. See :func:`ignore_ctrl_c`.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    # a run that is ended by Ctrl-C leaves a semaphore behind; Python's tracker of them frees it, and need not say so
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    resource_tracker.ensure_running()  # when multiprocessing starts it, it lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_ctrl_c() -> None:
    """Ignore Ctrl-C in this process and those that it begins: it goes to the command, which ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def begun_early() -> Iterator[None]:
    """Begin the server of processes while the block does other things; if the block fails, end it again.

    Otherwise the server would go on with its imports for seconds after the command, and hold its output open. A server
    that was there before stays.
    """
    own: Any = getattr(forkserver, "_forkserver", None)
    there = getattr(own, "_forkserver_pid", None)
    processes()
    try:
        yield
    except BaseException:
        if there is None and (begun := getattr(own, "_forkserver_pid", None)) is not None:
            with suppress(ProcessLookupError):
                os.kill(begun, signal.SIGKILL)
        raise


def processes() -> Any:
    """A fork server that has the heavy libraries imported, so that each run starts quickly; spawn elsewhere."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # the server must make no CUDA call: its children could no longer choose their device
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(FORK_SERVER)
    with holding_ctrl_c():
        forkserver.ensure_running()
    return context
