"""A disk of our own that is full: a small tmpfs, which only root can mount."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A folder on a disk of its own; the test is skipped, with the reason, where none can be mounted.

    Args:
        folder: made, and empty at first.
        kilobytes: that it holds.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk, and only on Linux")
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> None:
    """Fill a disk but for so many kilobytes, about."""
    free = os.statvfs(folder)
    ballast = max(0, free.f_bavail * free.f_frsize - leave * 1024)
    with (folder / "ballast").open("wb", buffering=0) as file:
        while ballast > 0:
            try:
                ballast -= file.write(bytes(min(ballast, 65536)))
            except OSError:
                return
