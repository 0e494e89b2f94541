"""Processes of a Ray cluster on this machine."""

from __future__ import annotations

from contextlib import suppress

import psutil

OF_RAY = ("IDLE", "SPILL", "RESTORE", "DELETE", "DashboardAgent", "RuntimeEnvAgent")
"""How names begin that Ray gives to processes of its own. A node ends without one of the last two."""


def job_of(process: psutil.Process) -> str:
    """Name of the job that a worker of Ray's works on, such as ``dpo-all``; "" if it has none. Ray writes it into the
    title of the process."""
    try:
        title = str(process.cmdline()[0])
    except (psutil.Error, IndexError):
        return ""
    name = title.removeprefix("ray::")
    return name if name != title and not name.startswith(OF_RAY) else ""


def kill_tree(process: psutil.Process) -> None:
    """Kill a process and all that it began, at once, as when a machine loses its power."""
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            one.kill()
