"""A file of rows to which one process appends and which all read: a line a row, each with its checksum.

A line is whole when it ends: what a killed process had begun to write is no row, and goes when the next process
continues the file.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

SUFFIX = ".rows"

_CRC = 8


class Row(NamedTuple):
    """A row to be written.

    Attributes:
        key: without tabs and line ends.
        version: how often the row was replaced.
        value: JSON in one line.
    """

    key: bytes
    version: int
    value: bytes


class Line(NamedTuple):
    """Where a row is in its file, and what it begins with.

    Attributes:
        key: of the row.
        version: how often the row was replaced.
        log: the file.
        offset: of its first byte.
        length: bytes, with the end of the line.
    """

    key: bytes
    version: int
    log: RowLog
    offset: int
    length: int


class RowLog:
    """What this process has read of a file of rows.

    Attributes:
        path: of the file.
        end: where the last whole line ends.
        damaged: lines that are not as they were written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.end, self.damaged = path, 0, 0
        self._next, self._inode = 0, 0

    def is_other(self) -> bool:
        """Whether the file is not the one that was read before: then it is read from its beginning."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            changed = self.end > 0
        else:
            changed = self._inode not in (0, status.st_ino) or status.st_size < self.end
        if changed:
            self.forget()
        return changed

    def forget(self) -> None:
        """Read the file from its beginning the next time."""
        self.end = self.damaged = self._next = self._inode = 0

    def news(self) -> Iterator[Line]:
        """The rows since the last call. Lines that are damaged, and those after them, are read again: on a network
        file system a line may come in pieces."""
        try:
            file = self.path.open("rb")  # opened each time, so that a network file system looks again
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            if status.st_size == self.end and not self.damaged:
                return
            self._inode, self.damaged = status.st_ino, 0
            yield from self._lines(file)

    def _lines(self, file: BinaryIO) -> Iterator[Line]:
        file.seek(self._next)
        offset = self._next
        for line in file:
            if not line.endswith(b"\n"):
                break
            if (head := head_of(line)) is None:
                self.damaged += 1
            else:
                yield Line(*head, self, offset, len(line))
            offset += len(line)
            self.end = offset
            if not self.damaged:
                self._next = offset

    def wrote(self, length: int) -> None:
        """This process has appended so many bytes."""
        if self._next == self.end:
            self._next += length
        self.end += length
        self._inode = self.path.stat().st_ino


def line_of(row: Row) -> bytes:
    """A row as a file holds it.

    Raises:
        ValueError: the key has a tab or a line end.
    """
    if b"\t" in row.key or b"\n" in row.key:
        raise ValueError(f"The key {row.key!r} has a tab or a line end")
    rest = b"%d\t%s\t%s\n" % (row.version, row.key, row.value)
    return b"%08x\t%s" % (zlib.crc32(rest), rest)


def head_of(line: bytes) -> tuple[bytes, int] | None:
    """Key and version of a row; None if its line is not as it was written."""
    try:
        if line[: _CRC + 1] != b"%08x\t" % zlib.crc32(line[_CRC + 1 :]):
            return None
        version = line.index(b"\t", _CRC + 1)
        key = line.index(b"\t", version + 1)
        return line[version + 1 : key], int(line[_CRC + 1 : version])
    except ValueError:
        return None


def value_of(line: bytes, key: bytes) -> bytes | None:
    """The JSON of a row; None if its line is not as it was written, or is another row's."""
    head = head_of(line)
    return line.split(b"\t", 3)[3] if head is not None and head[0] == key else None
