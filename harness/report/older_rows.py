"""The paragraph of a leaderboard page on rows that an earlier version of the code made."""

from __future__ import annotations

from harness.report.board import Board
from harness.store.versions import raised_since


def older_rows_paragraph(board: Board) -> str:
    """Which rows are stale, and what has changed since they were made; "" if all are current."""
    changes = {r.method: raised_since(r.versions) for r in board.results if raised_since(r.versions)}
    if not changes:
        return ""
    rows = "all rows" if set(changes) == {r.method for r in board.results} else ", ".join(f"`{m}`" for m in changes)
    kinds = dict.fromkeys(kind for of_row in changes.values() for kind in of_row)
    recorded = any(r.versions for r in board.results if r.method in changes)
    since = f" Changed since: {', '.join(kinds)}." if recorded else ""
    return (
        f"**Stale** ({rows}): made by an earlier version of SAIL-bench, so that the same command may give other "
        f"numbers now.{since} `sail-bench compare` with this recipe makes them anew."
    )
