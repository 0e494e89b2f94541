"""Split files of any lm-eval task in the data folder: one JSONL file a split, checked and kept while they are
unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.lmeval.row_checks import kinds_of_parts
from harness.benchmark import Row
from harness.errors import UserError
from harness.store import user_files
from harness.store.user_files import LocatedRow, Malformed

Splits = dict[str, list[Row]]
"""Rows by split."""


class FileStamp(NamedTuple):
    """A file with its size in bytes and the time of its last change (ns): equal stamps hold equal rows."""

    path: Path
    size: int
    modified: int


def stamped(path: Path) -> FileStamp:
    """The file's stamp now."""
    stat = path.stat()
    return FileStamp(path, stat.st_size, stat.st_mtime_ns)


def numbered_rows(path: Path, needed: Sequence[str] = ()) -> list[LocatedRow]:
    """Rows of a file, each with its place and the ``needed`` keys.

    Raises:
        UserError: the file is broken or holds no row.
    """
    rows = user_files.read_located_rows(path, needed)
    if not rows:
        raise UserError(f"{path} holds no row: fill it or remove it")
    return rows


@lru_cache(maxsize=8)
def split_rows(file: FileStamp) -> tuple[Row, ...]:
    """Rows of a split of any task.

    Raises:
        UserError: a line is none, or a column holds values of two kinds (file and line are named).
    """
    first_seen: dict[str, tuple[str, str]] = {}
    rows = numbered_rows(file.path)
    for where, row in rows:
        try:
            for column, kind in kinds_of_parts(row):
                earlier, place = first_seen.setdefault(column, (kind, where))
                if earlier != kind:
                    raise Malformed(
                        f"{column!r} is {kind}, but {earlier} in {place}: give each column one kind of value"
                    )
        except Malformed as error:
            raise UserError(f"{file.path}, {where}: {error}") from None
    return tuple(row for _, row in rows)
