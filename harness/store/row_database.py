"""Rows of earlier versions: one SQLite file, which is read and no longer written."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.errors import UserError
from harness.store.notices import notify
from harness.store.storage import place_aside

DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")
"""Beginnings of SQLite's names for the errors of a file that is no sound database."""

PARTS = ("", "-wal", "-shm")
"""Files of a database: itself, its log and the index of the log."""

_checked: set[tuple[int, int, int]] = set()
"""Device, inode and time of the files that this process has checked."""


class DamagedError(Exception):
    """The file is no sound database. The message says why."""


class RowDatabase:
    """The rows of a SQLite file of an earlier version.

    Nobody writes it any more, so that it needs no locks (``immutable``), which network file systems may not have.

    Args:
        path: of the file.

    Raises:
        DamagedError: it is no sound database.
        UserError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reported: set[bytes] = set()
        try:
            self._db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?immutable=1", uri=True)
            self._db.text_factory = bytes  # a damaged text need not be UTF-8
            self._check()
            columns = {column[1] for column in self._db.execute("PRAGMA table_info(rows)")}
        except sqlite3.Error as error:
            raise _fault(error, path) from None
        self._columns = f"key, value, {'checksum' if b'checksum' in columns else 'NULL'}" if columns else ""

    def _check(self) -> None:
        status = self.path.stat()
        stamp = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if stamp not in _checked:
            (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != b"ok":
                raise DamagedError(verdict.decode(errors="replace").splitlines()[-1])
            _checked.add(stamp)

    def read(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Results by key; absent keys are left out, and damaged ones, which are named once.

        Raises:
            DamagedError: the file cannot be read.
        """
        results: dict[bytes, Any] = {}
        damaged: list[bytes] = []
        for start in range(0, len(keys) if self._columns else 0, 500):
            part = [key.decode() for key in keys[start : start + 500]]
            query = f"SELECT {self._columns} FROM rows WHERE key IN ({','.join('?' * len(part))})"
            for key, value, checksum in self._rows(query, part):
                if is_sound(key, value, checksum):
                    results[key] = json.loads(value)
                elif key not in self._reported:
                    damaged.append(key)
        self._reported |= set(damaged)
        if damaged:
            notify(f"{self.path}: {len(damaged):,} cached rows are damaged; they are dropped and made again")
        return results

    def damaged(self) -> list[bytes]:
        """Keys of all rows that are not as they were written."""
        rows = self._rows(f"SELECT {self._columns} FROM rows") if self._columns else iter(())
        return [key for key, value, checksum in rows if not is_sound(key, value, checksum)]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _rows(self, query: str, values: Sequence[str] = ()) -> Iterator[tuple[bytes, bytes, int | None]]:
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            raise _fault(error, self.path) from None


def _fault(error: sqlite3.Error, path: Path) -> Exception:
    """What an error of SQLite means for a file."""
    name = str(getattr(error, "sqlite_errorname", ""))
    if name.startswith(DAMAGED):
        return DamagedError(str(error))
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_READONLY")):
        return UserError(f"{path} cannot be read ({error}): change who may, or set --store to another folder")
    return error


def settle(path: Path) -> None:
    """Bring the log that a killed process of an earlier version left beside its file into it."""
    log = Path(f"{path}-wal")
    if log.is_file() and log.stat().st_size:
        db = sqlite3.connect(path, timeout=60)
        with suppress(sqlite3.DatabaseError):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode=DELETE")
        db.close()


def move_aside(path: Path, reason: str, kept: int) -> None:
    """Move a damaged file aside, with a sentence.

    Args:
        path: of the file.
        reason: why it is moved.
        kept: rows of it that could be read.
    """
    aside = place_aside(path.parent, path.name)
    for part in PARTS:
        with suppress(FileNotFoundError):
            Path(f"{path}{part}").rename(f"{aside}{part}")
    notify(
        f"{path} is damaged ({reason}): it is now {aside}; {kept:,} of its rows are kept, and the others "
        "are made again where they are needed"
    )


def is_sound(key: bytes, value: bytes, checksum: int | None) -> bool:
    """Whether a row is as it was written; of one without a checksum, by a still earlier version, whether it is JSON."""
    if checksum is not None:
        return checksum == zlib.crc32(value, zlib.crc32(key))
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


def sound_rows(path: Path) -> dict[bytes, bytes]:
    """The rows of a damaged file, keys and JSON, that can be reached from its beginning or its end and are as they were
    written."""
    rows: dict[bytes, bytes] = {}
    db = sqlite3.connect(path)
    db.text_factory = bytes
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.DatabaseError):
            for key, value, checksum in db.execute(f"SELECT key, value, checksum FROM rows ORDER BY key {order}"):
                if checksum is not None and is_sound(key, value, checksum):
                    rows[key] = value
    db.close()
    return rows
