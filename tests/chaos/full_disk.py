"""A disk that is full at a moment that its size decides; then the same command on a larger one."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.command import Command
from tests.chaos.compared import differences
from tests.chaos.ended import faults_of
from tests.chaos.judge import Judge, judge
from tests.chaos.outcome import Fault, Line, Outcome
from tests.chaos.setting import ARGUMENTS, DEADLINE_S, Undisturbed, prepare, undisturbed

SIZES = 10
QUICK_SIZES = 2
LARGE = "1g"


def run(folder: Path, *, quick: bool) -> Outcome:
    """All sizes.

    Args:
        folder: for the mounts.
        quick: whether it is a look.
    """
    line, full = Line("sizes of the disk"), 0
    outcome = Outcome("full-disk", [line])
    count = QUICK_SIZES if quick else SIZES
    if reason := _cannot_mount(folder / "try"):
        line.skipped = reason
        return outcome
    with judge(folder / "requests.txt", delay=0) as asked:
        whole = undisturbed(folder / "whole", asked)
        needed = sum(path.stat().st_size for path in whole.folder.rglob("*") if path.is_file()) // 1024
        for number in range(count):
            size = needed * (2 * number + 1) // (2 * count)
            faults, was_full = _on_a_disk_of(folder / f"disk-{number}", size, asked, whole)
            full += was_full
            line.add(f"{size} kB of {needed} kB", faults)
    line.note = f"{full} ended in a sentence about the disk, and all in the same result on a larger one"
    return outcome


def _cannot_mount(place: Path) -> str:
    """Why no small disk can be made; "" if one can."""
    if platform.system() != "Linux" or os.geteuid():
        return "a small disk needs root on Linux"
    try:
        with _disk(place, "64k"):
            return ""
    except (OSError, subprocess.CalledProcessError):
        return "this machine mounts no tmpfs"


@contextmanager
def _disk(place: Path, size: str) -> Iterator[None]:
    """A file system of a size while the context lasts.

    Args:
        place: where it is mounted; made.
        size: as ``mount`` takes it.
    """
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)
        place.rmdir()


def _on_a_disk_of(place: Path, size: int, asked: Judge, whole: Undisturbed) -> tuple[list[Fault], bool]:
    """What is wrong with a comparison on a small disk that becomes large, and whether the disk was full.

    Args:
        place: of the disk.
        size: kB.
        asked: judges it.
        whole: the undisturbed comparison.
    """
    log = place.parent / f"{place.name}.txt"
    with _disk(place, f"{size}k"):
        home = place / "comparison"
        prepare(home, asked)
        command = Command(home, ARGUMENTS, log)
        faults = faults_of(command, ended=command.wait(DEADLINE_S))
        was_full = bool(command.code)
        if was_full and "is full: free some" not in " ".join(command.output.split()):
            faults.append(Fault("no fix", f"exit code {command.code}: {command.output[-400:]}"))
        subprocess.run(["mount", "-o", f"remount,size={LARGE}", str(place)], check=True, capture_output=True)
        command = Command(home, ARGUMENTS, log)
        faults += faults_of(command, ended=command.wait(DEADLINE_S))
        faults += [Fault("difference", text) for text in differences(home, whole.folder)[:5]]
    return faults, was_full
