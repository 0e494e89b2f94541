"""Processes of a Ray cluster on this machine."""

from __future__ import annotations

import psutil


def has_job(process: psutil.Process) -> bool:
    """Whether it is a worker of Ray's that works on a job: Ray writes so into its title."""
    try:
        title = str(process.cmdline()[0])
    except (psutil.Error, IndexError):
        return False
    return title.startswith("ray::") and "IDLE" not in title
