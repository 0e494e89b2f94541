"""Processes of a Ray cluster on this machine."""

from __future__ import annotations

from contextlib import suppress

import psutil


def job_of(process: psutil.Process) -> str:
    """Name of the job that a worker of Ray's works on, such as ``dpo-all``; "" if it has none. Ray writes it into the
    title of the process."""
    try:
        title = str(process.cmdline()[0])
    except (psutil.Error, IndexError):
        return ""
    return title.removeprefix("ray::") if title.startswith("ray::") and "IDLE" not in title else ""


def kill_tree(process: psutil.Process) -> None:
    """Kill a process and all that it began, at once, as when a machine loses its power."""
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            one.kill()
