"""Row cache: one SQLite file (WAL) of answers and judgments, keyed by everything that can change them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.store.json_files import json_text


class RowCache:
    """Maps the hash of a request to its JSON result. Safe for several processes; each ``put`` is durable.

    Args:
        path: the SQLite file, made if it is missing.
        on_put: called after each ``put``, so that a ledger can be written beside the rows that it paid for.
    """

    def __init__(self, path: Path, on_put: Callable[[], None] = lambda: None) -> None:
        self._on_put, self.path = on_put, path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """Stored results by key; absent keys are left out."""
        results: dict[str, Any] = {}
        for start in range(0, len(keys), 500):
            part = list(keys[start : start + 500])
            placeholders = ",".join("?" * len(part))
            query = f"SELECT key, value FROM rows WHERE key IN ({placeholders})"
            results.update({k: json.loads(v) for k, v in self._db.execute(query, part)})
        return results

    def put(self, rows: Iterable[tuple[str, Any]], *, replace: bool = False) -> None:
        """Store results in one transaction; an existing key keeps its first value unless ``replace``."""
        values = [(key, json_text(value)) for key, value in rows]
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(f"INSERT OR {'REPLACE' if replace else 'IGNORE'} INTO rows VALUES (?, ?)", values)
        self._on_put()

    def change(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Replace the result of a key by a function of it (of None if it is absent), in one transaction; the new one.

        Whatever the function raises leaves the old one in place.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            row = self._db.execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
            new = change(None if row is None else json.loads(row[0]))
            self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", (key, json_text(new)))
        return new

    def close(self) -> None:
        """Close the file."""
        self._db.close()
