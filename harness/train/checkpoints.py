"""Folders that an interrupted training goes on from: checkpoints and finished rounds, with hashes of their files.

A record, the ledger so far with size and sha256 of each file beside it, is written last: without it a folder is not
complete, and one whose files are not as recorded is not used.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from harness.store.integrity import SCRATCH, fault_of_files, record_files
from harness.store.notices import notify
from harness.store.sealed import read_sealed, write_sealed

LEDGER = "ledger.json"
FILES = "files"


def write_record(path: Path, ledger: dict[str, Any], *names: str) -> None:
    """Write the record of a folder that is complete.

    Args:
        path: of the record, in the folder.
        ledger: what was spent so far, as JSON.
        names: files and folders in the folder that it vouches for; all if none is named.
    """
    write_sealed(path, ledger | {FILES: record_files(path.parent, only=names, leave_out=(path.name,))})


def read_record(path: Path) -> dict[str, Any] | None:
    """The ledger in a record; None if the folder is not complete, or, with a sentence, if something in it is damaged.

    A record of an earlier version names no files and is taken as it is.
    """
    record = read_sealed(path)
    if record is None:
        if path.exists():
            notify(f"{path} is damaged: {path.parent.name} is not used")
        return None
    if fault := fault_of_files(path.parent, record.pop(FILES, {})):
        notify(f"{path.parent}: {fault}. It is not used")
        return None
    return record


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint whose files are as they were written."""
    for path in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if read_record(path / LEDGER) is not None:
            return path
        if (path / LEDGER).exists():
            set_aside(path)
    return None


def set_aside(folder: Path) -> None:
    """Move a folder that is not to be used to the checkpoints, which go when the training is done."""
    scratch = folder.parent if folder.parent.name == SCRATCH else folder.parent / SCRATCH
    scratch.mkdir(exist_ok=True)
    aside = scratch / f"damaged-{folder.name}"
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)


def step_of(checkpoint: Path) -> int:
    """The optimiser step of a checkpoint."""
    return int(checkpoint.name.rsplit("-", 1)[1])
