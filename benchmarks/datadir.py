"""Official data that the user brings: found under ``--data-dir`` and named in protocols by hash, never by path."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from harness.errors import UserError

VARIABLE = "SAIL_BENCH_DATA_DIR"


def locate(benchmark: str, folder: str, *names: str) -> Path:
    """A file of ``folder`` under the data folder: the first of ``names`` that is there.

    Raises:
        UserError: no data folder is named, or it lacks the file.
    """
    found = optional(folder, *names)
    if found is not None:
        return found
    root = os.environ.get(VARIABLE)
    if not root:
        raise UserError(f"The benchmark {benchmark} needs official data ({folder}/{names[0]}): name it with --data-dir")
    raise UserError(f"The benchmark {benchmark} needs {Path(root) / folder / names[0]}, which is not there")


def optional(folder: str, *names: str) -> Path | None:
    """The same, or None."""
    root = os.environ.get(VARIABLE)
    if not root:
        return None
    return next((p for p in (Path(root) / folder / name for name in names) if p.is_file()), None)


def folder(*parts: str) -> Path | None:
    """A folder under the data folder, or None."""
    root = os.environ.get(VARIABLE)
    found = Path(root).joinpath(*parts) if root else None
    return found if found is not None and found.is_dir() else None


def sha256(*paths: Path) -> str:
    """Hash (16 hex digits) of files' bytes, in order."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
