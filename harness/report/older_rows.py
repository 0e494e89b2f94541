"""The paragraph of a leaderboard page on rows that an earlier version of the code made."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.board import Board
from harness.report.markdown import code, plain
from harness.score.results import RunResult
from harness.store.versions import VERSIONS, raised_since


def older_rows_paragraph(board: Board) -> str:
    """Which rows are stale, which version made them, and what has changed since; "" if all are current."""
    stale = [run for run in board.results if raised_since(run.versions)]
    replaced = _replaced(board)
    if not stale and not replaced:
        return ""
    sentences = []
    if stale:
        methods = dict.fromkeys(run.method for run in stale)
        rows = "all rows" if set(methods) == {r.method for r in board.results} else ", ".join(map(code, methods))
        sentences.append(f"**Stale** ({rows}): made by an earlier version of SAIL-bench{_version(stale)}.")
        if changes := _changes(stale):
            sentences.append(f"Changed since: {', '.join(changes)}.")
    if replaced:
        cases = "; ".join(f"{title} of {', '.join(map(code, rows))}" for title, rows in replaced.items())
        sentences.append(f"**Older protocol**: {cases}; these values stand apart, further below.")
    sentences.append("`sail-bench compare` with this recipe makes them anew.")
    return " ".join(sentences)


def _version(stale: Sequence[RunResult]) -> str:
    """The versions that made stale runs, in brackets, and whether they recorded those of their stages."""
    named = sorted({plain(run.environment["sail_bench"]) for run in stale if "sail_bench" in run.environment})
    unrecorded = sum(not run.versions for run in stale)
    if unrecorded:
        runs = "" if unrecorded == len(stale) else f" in {unrecorded} of {len(stale)} runs"
        named.append(f"which recorded no versions of its stages{runs}")
    return f" ({', '.join(named)})" if named else ""


def _changes(stale: Sequence[RunResult]) -> list[str]:
    """What has changed since runs were made, with the version then and now."""
    then: dict[str, set[int]] = {}
    for run in stale:
        for kind in raised_since(run.versions) if run.versions else ():
            then.setdefault(kind, set()).add(run.versions[kind])
    return [
        f"{kind} ({' and '.join(map(str, sorted(then[kind])))}, now {now})"
        for kind, now in VERSIONS.items()
        if kind in then
    ]


def _replaced(board: Board) -> dict[str, list[str]]:
    """By title, rows whose primary score was measured under a protocol that a newer one has replaced."""
    cases: dict[str, list[str]] = {}
    for column in board.older_columns():
        if column.metric.primary:
            rows = [m for m in board.methods if board.cell(m, column)]
            cases[column.heading] = rows
    return cases
