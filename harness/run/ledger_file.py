"""What a stage under way has spent, on the disk in step with the rows that it paid for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.store.notices import notify
from harness.store.row_cache import RowCache
from harness.store.sealed import read_sealed, write_sealed

ROW = "row"


class LedgerFile:
    """The ledger in the work folder of a stage, from which another attempt goes on.

    It is written before rows are, with the spending both without them and with them. Whether the first of the rows is
    in the cache then says which of the two holds, so that a kill at any moment neither loses their cost nor counts it
    twice.

    Args:
        path: of the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._without: Mapping[str, Any] = {}

    def read(self, cache: RowCache) -> dict[str, Any]:
        """What an interrupted attempt had spent on rows that were kept; empty if nothing is known.

        Args:
            cache: of the rows.
        """
        value = read_sealed(self.path)
        if value is None:
            if self.path.exists():
                notify(
                    f"{self.path} is damaged: what the interrupted attempt had spent is not known, and counts from here"
                )
            return {}
        if ROW not in value:  # of an earlier version, or written after the rows
            return value
        spent: dict[str, Any] = value["with" if cache.holds(*value[ROW]) else "without"]
        return spent

    def go_on_from(self, spent: Mapping[str, Any]) -> None:
        """Take what a stage has spent so far as what holds without the next rows."""
        self._without = dict(spent)

    def write_before(self, spent: Mapping[str, Any], key: str, version: int) -> None:
        """Write what was spent, just before rows are.

        Args:
            spent: ledger with the cost of the rows.
            key: of the first row.
            version: of it: how often the row of this key has been replaced.
        """
        write_sealed(self.path, {"without": self._without, "with": spent, ROW: [key, version]})
        self._without = dict(spent)

    def write(self, spent: Mapping[str, Any]) -> None:
        """Write what was spent when no rows are about to be written."""
        write_sealed(self.path, spent)
        self._without = dict(spent)
