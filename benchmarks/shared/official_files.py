"""Official data: from the folder that ``--data-dir`` names, else from where they were published, at a pinned commit.

Protocols name them by hash, never by path.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from benchmarks.shared.download import UnavailableError, download
from benchmarks.shared.published import PUBLISHED
from harness.errors import AbsentError
from harness.store.settings import settings


def official_file(benchmark: str, folder: str, *names: str) -> Path:
    """A file of the data folder, else one that is downloaded.

    Args:
        benchmark: who needs it, for the error.
        folder: under the data folder.
        names: in order of preference; the first that the data folder has is taken, else the first that is known to
            :data:`benchmarks.shared.published.PUBLISHED`.

    Raises:
        AbsentError: it is not there and cannot be downloaded, or the downloaded bytes have another sha256.
    """
    path = local_file(folder, *names)
    if path is not None:
        return path
    published = next((PUBLISHED[key] for name in names if (key := f"{folder}/{name}") in PUBLISHED), None)
    try:
        if published is None:
            raise UnavailableError("no place to fetch it from is known")
        return download(published)
    except UnavailableError as reason:
        place = Path(settings().data_dir or "") / folder / names[0]
        raise AbsentError(
            f"The benchmark {benchmark} needs {place}, which is not there, and {reason}: name it with --data-dir"
        ) from None


def local_file(folder: str, *names: str) -> Path | None:
    """The first of these files that the data folder has; None if it has none. Nothing is downloaded."""
    root = settings().data_dir
    if not root:
        return None
    return next((path for path in (Path(root) / folder / name for name in names) if path.is_file()), None)


def packaged_file(package: str, path: str) -> Path | None:
    """A data file of an installed package, which is not imported; None if there is none."""
    spec = find_spec(package)
    roots = (spec and spec.submodule_search_locations) or []
    return next((file for root in roots if (file := Path(root) / path).is_file()), None)


def local_folder(*parts: str) -> Path | None:
    """A folder under the data folder; None if there is none."""
    root = settings().data_dir
    folder = Path(root).joinpath(*parts) if root else None
    return folder if folder is not None and folder.is_dir() else None


def files_hash(*paths: Path) -> str:
    """sha256 (16 hex digits) of the files' bytes, in order."""
    sha256 = hashlib.sha256()
    for path in paths:
        sha256.update(path.read_bytes())
    return sha256.hexdigest()[:16]
