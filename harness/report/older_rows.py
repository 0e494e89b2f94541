"""The paragraph of a leaderboard page on rows that an earlier version of the code made."""

from __future__ import annotations

from harness.report.board import Board
from harness.report.markdown import code
from harness.store.versions import raised_since


def older_rows_paragraph(board: Board) -> str:
    """Which rows are stale, and what has changed since they were made; "" if all are current."""
    changes = {r.method: raised_since(r.versions) for r in board.results if raised_since(r.versions)}
    replaced = _replaced(board)
    if not changes and not replaced:
        return ""
    sentences = []
    if changes:
        rows = "all rows" if set(changes) == {r.method for r in board.results} else ", ".join(map(code, changes))
        kinds = dict.fromkeys(kind for of_row in changes.values() for kind in of_row)
        recorded = any(r.versions for r in board.results if r.method in changes)
        since = f" Changed since: {', '.join(kinds)}." if recorded else ""
        sentences.append(f"**Stale** ({rows}): made by an earlier version of SAIL-bench.{since}")
    if replaced:
        cases = "; ".join(f"{title} of {', '.join(map(code, rows))}" for title, rows in replaced.items())
        sentences.append(f"**Older protocol**: {cases}; these values stand apart, further below.")
    sentences.append("`sail-bench compare` with this recipe makes them anew.")
    return " ".join(sentences)


def _replaced(board: Board) -> dict[str, list[str]]:
    """By title, rows whose primary score was measured under a protocol that a newer one has replaced."""
    cases: dict[str, list[str]] = {}
    for column in board.older_columns():
        if column.metric.primary:
            rows = [m for m in board.methods if board.cell(m, column)]
            cases[column.heading] = rows
    return cases
