"""Rows of a JSON lines file, each parsed when it is asked for, so that memory does not grow with the file."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

from harness.store.json_files import Row, json_text


class RowFile(Sequence[Row]):
    """A sequence of rows in a file. In memory is only where each of them begins.

    It equals any sequence with equal rows. A slice of it is another one on the same file.

    Args:
        path: the file; it must not change.
        offsets: the byte at which each row begins; all rows of the file, in order, if None.
    """

    def __init__(self, path: Path, offsets: Iterable[int] | None = None) -> None:
        self.path = path
        self._offsets = array("Q", _line_offsets(path) if offsets is None else offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> RowFile: ...

    def __getitem__(self, place: int | slice) -> Row | RowFile:
        if isinstance(place, slice):
            return RowFile(self.path, self._offsets[place])
        return next(self._read([self._offsets[place]]))

    def __iter__(self) -> Iterator[Row]:
        return self._read(self._offsets)

    def _read(self, offsets: Iterable[int]) -> Iterator[Row]:
        with self.path.open("rb") as handle:
            for offset in offsets:
                handle.seek(offset)
                yield json.loads(handle.readline())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)


def _line_offsets(path: Path) -> Iterator[int]:
    """Where the lines begin that are not empty."""
    offset = 0
    with path.open("rb") as handle:
        for line in handle:
            if not line.isspace():
                yield offset
            offset += len(line)


class RowView(Sequence[Row]):
    """Some rows of a sequence, perhaps changed, each taken when it is asked for.

    Args:
        rows: the sequence.
        places: which rows, in order; all if None.
        change: makes a row of the view from one of the sequence.
    """

    def __init__(
        self, rows: Sequence[Row], places: Sequence[int] | None = None, change: Callable[[Row], Row] | None = None
    ) -> None:
        self._rows, self._change = rows, change
        self._places = range(len(rows)) if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> RowView: ...

    def __getitem__(self, place: int | slice) -> Row | RowView:
        if isinstance(place, slice):
            return RowView(self._rows, self._places[place], self._change)
        row = self._rows[self._places[place]]
        return self._change(row) if self._change else row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)


class RowWriter:
    """Writes rows one by one; the file appears when all are written.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._handle = self._part.open("wb")
        self._length = 0

    def write(self, row: dict[str, Any]) -> int:
        """Append a row; returns the byte at which it begins."""
        line = (json_text(row) + "\n").encode()
        self._handle.write(line)
        offset, self._length = self._length, self._length + len(line)
        return offset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._handle.close()  # which writes what is left, and fails on a full disk
            if error is None:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)
