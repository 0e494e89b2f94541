"""What a stage has spent is exact after a kill just before, and just after, rows reach the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.run.ledger_file import LedgerFile
from harness.store.notices import listening
from harness.store.row_cache import RowCache
from harness.store.sealed import write_sealed

COSTS = (5, 7, 11)


class KilledError(Exception):
    """Stands for the end of the process."""


def attempt(folder: Path, kill: Callable[[RowCache, int], None]) -> int:
    """Pay for each row that is not there, as a stage does; what was spent over all attempts.

    Args:
        folder: of cache and ledger.
        kill: called with the cache and the number of the row before it is computed.
    """
    file, spent = LedgerFile(folder / "ledger.json"), {"tokens": 0}
    cache = RowCache(folder / "rows.sqlite", lambda key, version: file.write_before(dict(spent), key, version))
    kept = file.read(cache)
    file.go_on_from(kept)
    spent["tokens"] = kept.get("tokens", 0)
    for number, cost in enumerate(COSTS):
        if f"row-{number}" not in cache.get([f"row-{number}"]):
            kill(cache, number)
            spent["tokens"] += cost
            cache.put([(f"row-{number}", cost), (f"other-{number}", cost)])
    return spent["tokens"]


def no_kill(cache: RowCache, number: int) -> None:
    pass


@pytest.mark.parametrize("written", [False, True], ids=["before the rows", "after the rows"])
@pytest.mark.parametrize("at", range(len(COSTS)))
def test_a_kill_around_a_write_neither_loses_nor_doubles_a_cost(tmp_path: Path, at: int, written: bool) -> None:
    def kill(cache: RowCache, number: int) -> None:
        if number == at:
            append = cache._append

            def cut(rows: list[object]) -> None:
                if written:
                    append(rows)  # type: ignore[arg-type]
                raise KilledError

            cache._append = cut  # type: ignore[method-assign, assignment]

    for _ in range(2):  # the second attempt is cut at the same place, if its row is still to be written
        try:
            assert attempt(tmp_path, kill) == sum(COSTS)
        except KilledError:
            continue
    assert attempt(tmp_path, no_kill) == sum(COSTS)
    assert attempt(tmp_path, no_kill) == sum(COSTS), "and rows that are there cost nothing"


def test_a_row_that_is_replaced_counts_once_it_is(tmp_path: Path) -> None:
    """The key is there before: only its version says whether the new row is."""
    file, paid = LedgerFile(tmp_path / "ledger.json"), {"tokens": 3}
    RowCache(tmp_path / "rows.sqlite").put([("a", "free")])
    cache = RowCache(tmp_path / "rows.sqlite", lambda key, version: file.write_before(paid, key, version))
    cache._append = lambda rows: None  # type: ignore[method-assign] # a kill just before it
    cache.put([("a", "priced")], replace=True)
    assert LedgerFile(file.path).read(RowCache(cache.path)) == {}
    del cache._append  # type: ignore[method-assign]
    cache.put([("a", "priced")], replace=True)
    assert LedgerFile(file.path).read(RowCache(cache.path)) == paid


def test_rows_that_are_there_already_are_paid_for(tmp_path: Path) -> None:
    """Another process was faster: both have spent."""
    file, paid = LedgerFile(tmp_path / "ledger.json"), {"tokens": 3}
    RowCache(tmp_path / "rows.sqlite").put([("a", 1)])
    cache = RowCache(tmp_path / "rows.sqlite", lambda key, version: file.write_before(paid, key, version))
    cache.put([("a", 1)])
    assert LedgerFile(file.path).read(RowCache(cache.path)) == paid


def test_a_file_of_an_earlier_version_is_read_and_a_damaged_one_reported(tmp_path: Path) -> None:
    file, cache = LedgerFile(tmp_path / "ledger.json"), RowCache(tmp_path / "rows.sqlite")
    assert file.read(cache) == {}
    write_sealed(file.path, {"phases": {"eval": {"tokens": 9}}})
    assert file.read(cache) == {"phases": {"eval": {"tokens": 9}}}
    for path in tmp_path.glob("*ledger.json*"):
        path.write_text("{")
    heard: list[str] = []
    with listening(heard.append):
        assert file.read(cache) == {}
    assert "is damaged" in heard[-1]
