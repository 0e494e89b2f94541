"""Whether the files of a finished folder are as they were written: sizes and sha256, and what a process has hashed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness.store.json_files import file_digest

LARGE = 2**26
"""Bytes. Larger files (weights) are hashed where they are about to be read, not where a plan asks what is there."""

THREADS = 4
SCRATCH = "checkpoints"
"""Folders of this name hold what unfinished work needs. They are no part of what is finished."""

Files = dict[str, list[int | str]]
"""Size and sha256 of files by their path in a folder, as JSON."""


class Stamp(NamedTuple):
    """What tells a file from a changed one within a process; a file that is renamed keeps it."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


_hashes: dict[Stamp, str] = {}


def stamp_of(path: Path | str) -> Stamp:
    """The stamp of a file."""
    status = os.stat(path)  # noqa: PTH116 - a plan asks for thousands, and a Path costs more than the call
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def sha256_of(path: Path) -> str:
    """sha256 of a file; it is read once a process as long as it does not change."""
    stamp = stamp_of(path)
    if stamp not in _hashes:
        _hashes[stamp] = file_digest(path)
    return _hashes[stamp]


def content_files(folder: Path) -> list[Path]:
    """Files of a finished folder, but for hidden ones (copies, leftovers) and :data:`SCRATCH`."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [folder / path for path in paths if SCRATCH not in path.parts and not path.name.startswith(".")]


def record_files(
    folder: Path, *, only: tuple[str, ...] = (), leave_out: tuple[str, ...] = (), sync: bool = False
) -> Files:
    """Size and sha256 of the files of a folder.

    Args:
        folder: that is finished.
        only: names of the files and folders in it that count; all if empty.
        leave_out: names of those that do not.
        sync: whether to wait until files and folders are on the disk.
    """
    paths = [
        path
        for path in content_files(folder)
        if (name := path.relative_to(folder).parts[0]) not in leave_out and (not only or name in only)
    ]

    def record(path: Path) -> list[int | str]:
        digest = sha256_of(path)
        if sync:
            sync_to_disk(path)
        return [path.stat().st_size, digest]

    names = [path.relative_to(folder).as_posix() for path in paths]
    if not sync and sum(path.stat().st_size for path in paths) <= LARGE:  # sooner hashed than threads have started
        return dict(zip(names, map(record, paths), strict=True))
    with ThreadPoolExecutor(THREADS) as pool:
        files = dict(zip(names, pool.map(record, paths), strict=True))
    if sync:
        for parent in {path.parent for path in paths} | {folder}:
            sync_to_disk(parent)
    return files


def fault_of_files(folder: Path, files: Mapping[str, list[int | str]], *, whole: bool = True) -> str:
    """What is wrong with the first file that is not as it was recorded; nothing if all are.

    Args:
        folder: that is checked.
        files: as :func:`record_files` gave them.
        whole: whether files above :data:`LARGE` are hashed too.
    """
    unread = []
    for name, (size, digest) in files.items():
        try:
            stamp = stamp_of(f"{folder}/{name}")
        except OSError as error:
            return f"{name} is missing" if isinstance(error, FileNotFoundError) else _unreadable(name, error)
        if stamp.size != size:
            return f"{name} has {stamp.size:,} bytes and had {size:,}"
        if _hashes.get(stamp, digest) != digest:
            return f"{name} is not what was written"
        if stamp not in _hashes and (whole or stamp.size <= LARGE):
            unread.append(name)

    def fault(name: str) -> str:
        try:
            return "" if sha256_of(folder / name) == files[name][1] else f"{name} is not what was written"
        except OSError as error:
            return _unreadable(name, error)

    if sum(int(files[name][0]) for name in unread) <= LARGE:
        return next(filter(None, map(fault, unread)), "")
    with ThreadPoolExecutor(THREADS) as pool:
        return next(filter(None, list(pool.map(fault, unread))), "")


def _unreadable(name: str, error: OSError) -> str:
    return f"{name} cannot be read ({error.strerror})"


def sync_to_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
