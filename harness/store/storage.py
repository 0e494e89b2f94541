"""Folders that cannot be written, full disks, and what killed processes left while they wrote."""

from __future__ import annotations

import errno
import math
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import UserError, message_of
from harness.store.hosts import runs, writer

QUARANTINE = "quarantine"
"""Folder of a store for what was damaged."""

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
SIGNS = (
    "No space left on device",
    "Disk quota exceeded",
    "database or disk is full",
    "PytorchStreamWriter failed writing file",  # torch gives no reason
)
"""In messages of libraries that write by themselves (torch, safetensors)."""

SETTLED_S = 60.0
"""Age of a partial file from which on its writer, if it is gone, is gone for good."""

ABANDONED_S = 86400.0
"""Age of a partial file of another host from which on nobody is taken to write it."""

_PART = re.compile(r".*\.([A-Za-z0-9.-]+-)?(?P<process>\d+)\.part(ial)?")


def storage_fault(error: BaseException) -> str:
    """One sentence about a disk that is full, a folder that cannot be written or a path that cannot be, with the fix;
    nothing for other errors."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        place = f" that holds {at.filename}" if isinstance(at, OSError) and at.filename else ""
        if getattr(at, "errno", None) in FULL or any(sign in message_of(at) for sign in SIGNS):
            return (
                f"The disk{place} is full: free some of it ('sail-bench store gc' says what a store can spare), and "
                "run the same command again, which goes on from here"
            )
        if isinstance(at, OSError) and at.errno in REFUSED and at.filename:
            reason = (at.strerror or "").lower()
            return (
                f"{at.filename} cannot be written or read ({reason}): change who may, or set --store and --results to "
                "other folders"
            )
        if isinstance(at, OSError) and at.errno == errno.ENAMETOOLONG and at.filename:
            return f"{at.filename} cannot be looked up ({(at.strerror or '').lower()}): give another path"
        seen.append(at)
        at = at.__cause__ or at.__context__
    return ""


def unwritable(path: Path, error: OSError, fix: str, what: str = "") -> UserError:
    """An error for a file or folder that could not be written: the disk is full, or the fix.

    Args:
        path: that should have been written.
        error: what the attempt came to.
        fix: unless the disk is full.
        what: is written before the path, such as "The folder ".
    """
    if error.errno in FULL:
        return UserError(storage_fault(OSError(error.errno, error.strerror, str(error.filename or path))))
    return UserError(f"{what}{path} cannot be written ({error.strerror}): {fix}")


def check_writable(folder: Path, flag: str, parts: Sequence[str] = ("",)) -> None:
    """Fail before any work if a folder could not be written.

    Args:
        folder: that will be written.
        flag: which chooses it.
        parts: folders in it that will be written ("": itself); they are made.

    Raises:
        UserError: names the folder and the flag.
    """
    for part in parts:
        probe = folder / part / ".writable"
        try:
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink(missing_ok=True)  # another command may try the same
        except OSError as error:
            raise unwritable(probe.parent, error, f"choose another with {flag}", "The folder ") from None


def place_aside(root: Path, name: str) -> Path:
    """A free path in the quarantine of a store, which is made.

    Args:
        root: folder of the store.
        name: of what is moved there; a number is added if there is one already.
    """
    folder = root / QUARANTINE
    folder.mkdir(parents=True, exist_ok=True)
    taken, number = folder / name, 1
    while taken.exists():
        number += 1
        taken = folder / f"{name}-{number}"
    return taken


def remove_partial_files(folder: Path, *, deep: bool = False) -> None:
    """Remove files that killed processes had begun to write and that nobody will finish.

    Args:
        folder: they are looked for in it.
        deep: and in all folders in it.
    """
    for path in [*folder.glob("**/*.part" if deep else "*.part"), *folder.glob("*.partial")]:
        named = _PART.fullmatch(path.name)
        with suppress(OSError):
            if named and time.time() - path.stat().st_mtime > _patience(path.name, int(named["process"])):
                path.unlink()


def _patience(name: str, process: int) -> float:
    """Seconds after which a partial file goes, if nobody writes it: never, if its process runs on this host."""
    if name.rpartition(".")[0].endswith(f".{writer(process)}") or re.search(r"\.\d+\.part", name):
        return math.inf if runs(process) else SETTLED_S
    return ABANDONED_S
