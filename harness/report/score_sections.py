"""Sections of a leaderboard page that show scores: the primary ones, paired differences, secondary metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.report.board import Board, Column
from harness.report.text import format_interval, format_number, markdown_table
from harness.score.verdicts import verdict_on


def scores_section(board: Board) -> str:
    """The primary scores with intervals and counts, and warnings where few answers could be used."""
    columns = board.columns(primary=True)
    if not columns:
        return ""
    rows = []
    for method in board.methods:
        seeds = len(board.runs_of(method))
        row = [f"`{method}`" + (f" ({seeds} seeds)" if seeds > 1 else "")]
        for column in columns:
            cell = board.cell(method, column)
            count = f" ({cell.n_valid}/{cell.n_total})" if cell and cell.n_valid < cell.n_total else ""
            if cell and cell.seeds is not None and len(cell.seeds) < seeds:
                count += f" ({len(cell.seeds)} of {seeds} seeds)"
            row.append(format_interval(cell.interval, column.metric.unit) + count if cell else "not measured")
        rows.append(row)
    counts = ["*valid / total, each*"]
    for column in columns:
        cells = [c for m in board.methods if (c := board.cell(m, column))]
        counts.append(" ".join(sorted({f"{c.n_valid} / {c.n_total}" for c in cells})))
    rows.append(counts)
    notes = (
        pending_text(board),
        _few_valid(board, columns),
        invalid_text(board),
        _unanswered(board),
        stripped_text(board),
        replaced_text(board),
    )
    warnings = [text for text in notes if text]
    return "\n\n".join(["## Scores", markdown_table(["method", *map(_heading, columns)], rows), *warnings])


def pending_text(board: Board) -> str:
    """Which rows are still to be measured on which benchmarks; "" if none is."""
    names: dict[str, set[str]] = {}
    for run in board.finished:
        if run.pending:
            names.setdefault(", ".join(run.pending), set()).add(run.method)
    cases = [f"{titles} of {', '.join(f'`{m}`' for m in sorted(rows))}" for titles, rows in sorted(names.items())]
    return f"**Not measured yet**: {'; '.join(cases)}. The same command goes on." if cases else ""


def _heading(column: Column) -> str:
    return f"{column.title}, {column.metric.unit}"


def _few_valid(board: Board, columns: Sequence[Column]) -> str:
    """A warning where fewer than half of what was asked could be used."""
    cases = [
        f"{column.title} of `{method}` ({cell.n_valid} of {cell.n_total})"
        for method in board.methods
        for column in columns
        if (cell := board.cell(method, column)) and 2 * cell.n_valid < cell.n_total
    ]
    if not cases:
        return ""
    return f"**Fewer than half are valid**, so the score stands for a rest that chose itself: {'; '.join(cases)}."


def invalid_text(board: Board) -> str:
    """Which values of the primary metrics are not valid, counted by reason over seeds; "" if all are."""
    cases = []
    for method in board.methods:
        counts: dict[str, Counter[str]] = {}
        for run in board.runs_of(method):
            for result in run.benchmarks:
                for metric in result.metrics:
                    if metric.primary and metric.name in result.invalid:
                        counts.setdefault(metric.title, Counter()).update(result.invalid[metric.name])
        cases += [
            f"{title} of `{method}`: " + ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            for title, reasons in counts.items()
        ]
    return f"**Not valid**, and in no mean: {'; '.join(cases)}." if cases else ""


def _unanswered(board: Board) -> str:
    """A warning where a judge left calls unanswered: they count as not valid until an answer comes."""
    cases = _counted(board, "unanswered")
    faults = sorted({b.fault for r in board.finished for b in r.benchmarks if b.fault})
    if not cases:
        return ""
    why = f" ({'; '.join(faults)})" if faults else ""
    return f"**Calls without an answer of the judge**: {'; '.join(cases)}{why}. The same command asks them again."


def stripped_text(board: Board) -> str:
    """How many answers had thoughts, which were left out; "" if none had."""
    cases = _counted(board, "stripped")
    if not cases:
        return ""
    return (
        f"**Answers with thoughts**, which were left out before the rest was judged and measured (`thinking: strip`): "
        f"{'; '.join(cases)}."
    )


def replaced_text(board: Board) -> str:
    """How many characters of answers and of replies could not be stored; "" if all could."""
    cases = _counted(board, "replaced")
    if not cases:
        return ""
    where = "in answers or in the judge's replies"
    return f"**Characters that no file can hold**, replaced by U+FFFD {where}: {'; '.join(cases)}."


def _counted(board: Board, name: str) -> list[str]:
    """A field of the results that counts something, where it is not 0."""
    return [
        f"{count} of `{r.method}` seed {r.seed} in {b.title}"
        for r in board.finished
        for b in r.benchmarks
        if (count := getattr(b, name))
    ]


def differences_section(board: Board, other: str) -> str:
    """Paired differences of the primary scores from the row ``other``, with verdicts."""
    columns = [c for c in board.columns(primary=True) if c.metric.better]
    families = [board.comparisons_with(other, column) for column in columns]
    rows = []
    for method in board.methods:
        if method == other:
            continue
        row = [f"`{method}`"]
        for column, family in zip(columns, families, strict=True):
            difference = family.get(method)
            if difference is None:
                row.append("not paired")
                continue
            by_correction = verdict_on(difference.interval, column.metric.better) != difference.verdict
            p = f" (p {difference.p_holm:.2f})" if by_correction else ""
            interval = format_interval(difference.interval, column.metric.unit, sign=True)
            row.append(f"{interval} **{difference.verdict}**{p}")
        rows.append(row)
    rows.append(["*smallest difference this set can show*", *detectable_cells(board, columns, other)])
    note = (
        "Paired on the same prompts. An interval is about one comparison; a verdict holds for all comparisons of its "
        "column together (Holm, 5%), and p is shown where only that correction takes it back. "
        "Last row: the true difference that would be found with power 80% (median over the trained methods)."
    )
    table = markdown_table(["method", *map(_heading, columns)], rows)
    return f"## Differences to `{other}`\n\n{table}\n\n{note}"


def detectable_cells(board: Board, columns: Sequence[Column], other: str) -> list[str]:
    """Cells of a row: the minimum detectable difference to ``other`` in each column.

    Args:
        board: all results of the page.
        columns: those of the table.
        other: the row that the others are compared with.
    """
    return [format_number(board.detectable(column, other), column.metric.unit) for column in columns]


def value_rows(board: Board, columns: Sequence[Column]) -> list[list[str]]:
    """A row for each method: its name, then value and interval in each column."""
    rows = []
    for method in board.methods:
        cells = [board.cell(method, column) for column in columns]
        texts = [
            format_interval(cell.interval, column.metric.unit) if cell else "not measured"
            for cell, column in zip(cells, columns, strict=True)
        ]
        rows.append([f"`{method}`", *texts])
    return rows


def secondary_section(board: Board) -> str:
    """Metrics that are not primary, a row each; those of ``preference`` and ``curve`` are shown elsewhere."""
    columns = [c for c in board.columns(primary=False) if c.benchmark not in ("preference", "curve")]
    if not columns:
        return ""
    titles = [f"{c.benchmark}: {c.metric.title} ({c.label}), {c.metric.unit}" for c in columns]
    by_method = [row[1:] for row in value_rows(board, columns)]
    sizes = detectable_cells(board, columns, "start")
    rows = [[title, *[row[i] for row in by_method], sizes[i]] for i, title in enumerate(titles)]
    header = ["metric", *[f"`{m}`" for m in board.methods], "smallest difference to `start`"]
    return f"## Secondary metrics and the judge's habits\n\n{markdown_table(header, rows)}"
