"""``SUBJECTS.md``: a benchmark's score by subject, which would be too many columns for the leaderboard."""

from __future__ import annotations

import numpy as np

from harness.report.board import Board, Column
from harness.report.markdown import code, markdown_table, page, plain
from harness.score.columns import Array, float_column

FILE = "SUBJECTS.md"


def subjects_page(board: Board) -> str | None:
    """A table for each primary metric whose items name their subjects; None where there is none."""
    tables = [table for c in board.columns(primary=True) if (table := _table(board, c))]
    if not tables:
        return None
    note = (
        "Percent ± standard error over the subject's items (mean over seeds first). Many subjects, few items each: "
        "some differ by chance."
    )
    return page(["# Scores by subject", note, *tables])


def _table(board: Board, column: Column) -> str | None:
    """One row a subject, one column a method."""
    values = {m: by_subject for m in board.methods if (by_subject := _by_subject(board, m, column))}
    if not values:
        return None
    rows = []
    for subject in sorted({subject for by_subject in values.values() for subject in by_subject}):
        sizes = sorted({len(by_subject[subject]) for by_subject in values.values() if subject in by_subject})
        cells = [
            _cell(by_subject[subject]) if subject in by_subject else "not measured" for by_subject in values.values()
        ]
        rows.append([plain(subject), "/".join(map(str, sizes)), *cells])
    rows.append(["*mean over subjects*", "", *[f"{_mean_over_subjects(v):.1f}" for v in values.values()]])
    header = ["subject", "items", *[code(m) for m in values]]
    title = f"## {column.title}, {column.metric.unit} (protocol `{column.protocol_hash}`)"
    return f"{title}\n\n{markdown_table(header, rows)}"


def _mean_over_subjects(by_subject: dict[str, Array]) -> float:
    """Percent, each subject counting the same; NaN where no subject has a valid item."""
    return float(np.mean([100 * values.mean() for values in by_subject.values() if len(values)] or [np.nan]))


def _by_subject(board: Board, method: str, column: Column) -> dict[str, Array]:
    """Valid values of a method's items by subject, the mean over its seeds."""
    values_by_seed, subjects = [], None
    for run in board.runs_of(method):
        scored = run.benchmark(column.benchmark)
        estimator = column.metric.estimator
        if scored is None or scored.protocol_hash != column.protocol_hash:
            continue
        columns = scored.items[estimator.group]
        if "subject" not in columns:
            continue
        if subjects is None or columns["subject"] == subjects:
            subjects = columns["subject"]
            values_by_seed.append(float_column(columns, estimator.column))
    if subjects is None:
        return {}
    values, labels = np.mean(values_by_seed, axis=0), np.array(subjects)
    valid = ~np.isnan(values)
    return {str(name): values[valid & (labels == name)] for name in dict.fromkeys(subjects)}


def _cell(values: Array) -> str:
    if not len(values):
        return "n/a"
    error = f"{100 * values.std(ddof=1) / len(values) ** 0.5:.1f}" if len(values) > 1 else "n/a"
    return f"{100 * values.mean():.1f} ± {error}"
