"""Official data: from the folder that ``--data-dir`` names, else from where they were published, at a pinned commit.

Protocols name them by hash, never by path.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from benchmarks.shared.published import SOURCES, fetch
from harness.errors import UserError
from harness.store.settings import settings


def locate(benchmark: str, folder: str, *names: str) -> Path:
    """A file of ``folder`` under the data folder: the first of ``names`` that is there, else the one of them that
    :mod:`benchmarks.shared.published` can fetch.

    Raises:
        UserError: it is not there and cannot be fetched, or what was fetched has another sha256.
    """
    found = optional(folder, *names)
    if found is not None:
        return found
    known = next((SOURCES[key] for name in names if (key := f"{folder}/{name}") in SOURCES), None)
    got = fetch(known) if known else "no place to fetch it from is known"
    if isinstance(got, Path):
        return got
    place = Path(settings().data_dir or "") / folder / names[0]
    raise UserError(f"The benchmark {benchmark} needs {place}, which is not there, and {got}: name it with --data-dir")


def optional(folder: str, *names: str) -> Path | None:
    """A file under the data folder, or None; nothing is fetched."""
    root = settings().data_dir
    if not root:
        return None
    return next((p for p in (Path(root) / folder / name for name in names) if p.is_file()), None)


def packaged(package: str, path: str) -> Path | None:
    """A data file of an installed package, which is not imported; None where there is none."""
    spec = find_spec(package)
    found = [p for root in (spec and spec.submodule_search_locations) or [] if (p := Path(root) / path).is_file()]
    return found[0] if found else None


def folder(*parts: str) -> Path | None:
    """A folder under the data folder, or None."""
    root = settings().data_dir
    found = Path(root).joinpath(*parts) if root else None
    return found if found is not None and found.is_dir() else None


def sha256(*paths: Path) -> str:
    """Hash (16 hex digits) of files' bytes, in order."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
