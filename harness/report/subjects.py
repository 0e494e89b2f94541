"""``SUBJECTS.md``: a benchmark's score by subject, which would be too many columns for the leaderboard."""

from __future__ import annotations

import numpy as np

from harness.report.board import Board, Column
from harness.report.text import grid
from harness.score.estimators import Array, column

FILE = "SUBJECTS.md"


def subjects(board: Board) -> str | None:
    """A table for each primary metric whose items name their subjects; None where there is none."""
    parts = [part for c in board.columns(primary=True) if (part := _table(board, c))]
    if not parts:
        return None
    note = (
        "Percent ± standard error over the subject's items (mean over seeds first). Many subjects, few items each: "
        "some differ by chance."
    )
    return "\n\n".join(["# Scores by subject", note, *parts]) + "\n"


def _table(board: Board, shown: Column) -> str | None:
    found = {m: by for m in board.methods if (by := _by_subject(board, m, shown))}
    if not found:
        return None
    names = list(dict.fromkeys(name for by in found.values() for name in by))
    rows = []
    for name in sorted(names):
        sizes = sorted({len(by[name]) for by in found.values() if name in by})
        cells = [_cell(by[name]) if name in by else "not measured" for by in found.values()]
        rows.append([name, "/".join(map(str, sizes)), *cells])
    means = [f"{np.mean([100 * v.mean() for v in by.values() if len(v)] or [np.nan]):.1f}" for by in found.values()]
    rows.append(["*mean over subjects*", "", *means])
    header = ["subject", "items", *[f"`{m}`" for m in found]]
    return f"## {shown.title}, {shown.metric.unit} (protocol `{shown.protocol_hash}`)\n\n{grid(header, rows)}"


def _by_subject(board: Board, method: str, shown: Column) -> dict[str, Array]:
    """Valid values of a method's items by subject, the mean over its seeds."""
    seeds, subjects = [], None
    for run in board.of(method):
        scored = run.benchmark(shown.benchmark)
        how = shown.metric.estimator
        if scored is None or scored.protocol_hash != shown.protocol_hash or "subject" not in scored.items[how.group]:
            continue
        columns = scored.items[how.group]
        if subjects is None or columns["subject"] == subjects:
            subjects = columns["subject"]
            seeds.append(column(columns, how.column))
    if subjects is None:
        return {}
    values, labels = np.mean(seeds, axis=0), np.array(subjects)
    valid = ~np.isnan(values)
    return {str(name): values[valid & (labels == name)] for name in dict.fromkeys(subjects)}


def _cell(values: Array) -> str:
    if not len(values):
        return "n/a"
    error = f"{100 * values.std(ddof=1) / len(values) ** 0.5:.1f}" if len(values) > 1 else "n/a"
    return f"{100 * values.mean():.1f} ± {error}"
