"""Processes that a command begins: their log, and their end with the process that began them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from pathlib import Path
from typing import Any

from harness.store.foreign_text import CleanLog

FORK_SERVER = ["harness.run.fork_server", "harness.run.preload"]
"""Modules that a fork server imports."""

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


def processes() -> Any:
    """A fork server that has the heavy libraries imported, so that each run starts quickly; spawn elsewhere."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # a run that is ended by Ctrl-C leaves a semaphore behind; the tracker frees it and need not talk about it
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    # the server must make no CUDA call: its children could no longer choose their device
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(FORK_SERVER)
    return context
