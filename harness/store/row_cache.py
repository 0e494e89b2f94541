"""Row cache: one SQLite file (WAL) of answers and judgments, keyed by everything that can change them."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UserError
from harness.store.json_files import json_text
from harness.store.notices import notify
from harness.store.storage import place_aside

Result = TypeVar("Result")

DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
"""Beginnings of SQLite's names for the errors of a file that is no sound database."""

PARTS = ("", "-wal", "-shm")
"""Files of a database: itself, its log and the index of the log."""

_checked: set[tuple[int, int]] = set()
"""Device and inode of the files that this process has checked."""


class RowCache:
    """Maps the hash of a request to its JSON result. Safe for several processes.

    Each ``put`` is on the disk when it returns. A row has a checksum: a damaged one counts as absent, with a sentence.
    A file is checked when it is opened; a damaged one is moved aside with a sentence, and what can be read of it stays.

    Args:
        path: the SQLite file, made if it is missing.
        on_put: called after each ``put``, so that a ledger can be written beside the rows that it paid for.

    Raises:
        UserError: the file cannot be opened or written.
    """

    def __init__(self, path: Path, on_put: Callable[[], None] = lambda: None) -> None:
        self._on_put, self.path = on_put, path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db: sqlite3.Connection = self._guarded(self._connected)

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """Stored results by key; absent keys are left out."""
        return self._guarded(lambda: self._read(keys))

    def put(self, rows: Iterable[tuple[str, Any]], *, replace: bool = False) -> None:
        """Store results in one transaction; an existing key keeps its first value unless ``replace``."""
        values = [_row(key, value) for key, value in rows]

        def write() -> None:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                how = "REPLACE" if replace else "IGNORE"
                self._db.executemany(f"INSERT OR {how} INTO rows (key, value, checksum) VALUES (?, ?, ?)", values)

        self._guarded(write)
        self._on_put()

    def change(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Replace the result of a key by a function of it (of None if it is absent), in one transaction; the new one.

        Whatever the function raises leaves the old one in place.
        """

        def write() -> Any:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                new = change(self._read([key]).get(key))
                insert = "INSERT OR REPLACE INTO rows (key, value, checksum) VALUES (?, ?, ?)"
                self._db.execute(insert, _row(key, new))
            return new

        return self._guarded(write)

    def damaged(self) -> list[str]:
        """Keys of all rows that are not as they were written."""
        rows = self._db.execute("SELECT key, value, checksum FROM rows")
        return [key.decode(errors="replace") for key, value, checksum in rows if not _sound(key, value, checksum)]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _read(self, keys: Sequence[str]) -> dict[str, Any]:
        results: dict[str, Any] = {}
        damaged: list[bytes] = []
        for start in range(0, len(keys), 500):
            part = list(keys[start : start + 500])
            query = f"SELECT key, value, checksum FROM rows WHERE key IN ({','.join('?' * len(part))})"
            for key, value, checksum in self._db.execute(query, part):
                if _sound(key, value, checksum):
                    results[key.decode()] = json.loads(value)
                else:
                    damaged.append(key)
        if damaged:
            self._db.executemany("DELETE FROM rows WHERE key = ?", [(key.decode(),) for key in damaged])
            notify(f"{self.path}: {len(damaged):,} cached rows are damaged; they are dropped and made again")
        return results

    def _guarded(self, act: Callable[[], Result]) -> Result:
        """Do something with the file; once more with a new one if it turns out to be damaged."""
        try:
            return act()
        except sqlite3.DatabaseError as error:
            if not str(getattr(error, "sqlite_errorname", "")).startswith(DAMAGED):
                raise self._refused(error) from None
            self._begin_anew(str(error))
            return act()

    def _refused(self, error: sqlite3.Error) -> Exception:
        """A user error for what a user can change, else the error itself."""
        name = str(getattr(error, "sqlite_errorname", ""))
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return UserError(f"{self.path} cannot be written ({error}): set --store to a folder that can")
        if name.startswith("SQLITE_FULL"):
            return UserError(f"The disk that holds {self.path} is full: free some of it and run the same command again")
        return error

    def _connected(self) -> sqlite3.Connection:
        """The file, opened, checked once a process, and with its table."""
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            db.text_factory = bytes  # a damaged text need not be UTF-8
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            status = self.path.stat()
            if (status.st_dev, status.st_ino) not in _checked:
                (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != b"ok":
                    damage = sqlite3.DatabaseError(verdict.decode(errors="replace").splitlines()[-1])
                    damage.sqlite_errorname = DAMAGED[0]
                    raise damage
                _checked.add((status.st_dev, status.st_ino))
            db.execute(
                "CREATE TABLE IF NOT EXISTS rows "
                "(key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID"
            )
            if b"checksum" not in {column[1] for column in db.execute("PRAGMA table_info(rows)")}:
                _add_checksums(db)
        except BaseException:
            db.close()
            raise
        return db

    def _begin_anew(self, reason: str) -> None:
        """Move the damaged file aside and open a new one. Another process may have done so before."""
        from filelock import FileLock

        if hasattr(self, "_db"):
            self._db.close()
        with FileLock(self.path.with_name(f"{self.path.name}.lock")):
            with suppress(sqlite3.DatabaseError):
                _checked.clear()
                self._db = self._connected()
                return
            aside = place_aside(self.path.parent, self.path.name)
            for part in PARTS:
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{part}").rename(f"{aside}{part}")
            self._db = self._connected()
            kept = _sound_rows(aside)
            self._db.executemany("INSERT OR IGNORE INTO rows (key, value, checksum) VALUES (?, ?, ?)", kept)
        notify(
            f"{self.path} is damaged ({reason}): it is now {aside}; {len(kept):,} of its rows are kept, and the others "
            "are made again where they are needed"
        )


def _row(key: str, value: Any) -> tuple[str, str, int]:
    """A row as the file holds it."""
    text = json_text(value)
    return key, text, _checksum(key.encode(), text.encode())


def _checksum(key: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key))


def _sound(key: bytes, value: bytes, checksum: int | None) -> bool:
    """Whether a row is as it was written; of one without a checksum, by an earlier version, whether it is JSON."""
    if checksum is not None:
        return checksum == _checksum(key, value)
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


def _sound_rows(path: Path) -> list[tuple[str, str, int]]:
    """The rows of a damaged file that can be reached from its beginning or its end and are as they were written."""
    rows: dict[str, tuple[str, str, int]] = {}
    db = sqlite3.connect(path)
    db.text_factory = bytes
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.DatabaseError):
            for key, value, checksum in db.execute(f"SELECT key, value, checksum FROM rows ORDER BY key {order}"):
                if checksum is not None and _sound(key, value, checksum):
                    rows[key.decode()] = (key.decode(), value.decode(), checksum)
    db.close()
    return list(rows.values())


def _add_checksums(db: sqlite3.Connection) -> None:
    """Give the table of an earlier version its column of checksums; its rows stay without."""
    try:
        db.execute("ALTER TABLE rows ADD COLUMN checksum INTEGER")
    except sqlite3.OperationalError as error:
        if "duplicate column" not in str(error):  # another process was faster
            raise
