"""Sections of a leaderboard page that show scores: the primary ones, paired differences, secondary metrics."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.board import Board, Column
from harness.report.markdown import code, markdown_table
from harness.report.score_notes import invalid_text, replaced_text, stripped_text
from harness.report.text import format_interval, format_number
from harness.report.trust import pooled_differences
from harness.score.verdicts import Verdict, verdict_on

MARKS = {Verdict.BETTER: "**▲ better**", Verdict.WORSE: "**▼ worse**", Verdict.NO_DIFFERENCE: "·"}


def scores_section(board: Board) -> str:
    """All primary scores with intervals and counts, and what could not be used."""
    columns = board.columns(primary=True)
    if not columns:
        return ""
    notes = [text for text in (invalid_text(board), stripped_text(board), replaced_text(board)) if text]
    return "\n\n".join([_score_table(board, columns), *notes])


def older_scores_section(board: Board) -> str:
    """Primary scores under protocols that newer ones have replaced; "" if there are none."""
    columns = [column for column in board.older_columns() if column.metric.primary]
    if not columns:
        return ""
    note = (
        "Measured under an older version of the benchmark. They share no column with the scores of the present one; "
        "`sail-bench compare` with this recipe measures them anew."
    )
    protocols = ", ".join(f"{c.heading}: protocol `{c.protocol_hash}`" for c in columns)
    return f"{_score_table(board, columns)}\n\n{note} {protocols}."


def _score_table(board: Board, columns: Sequence[Column]) -> str:
    rows = []
    for method in board.methods:
        seeds = len(board.runs_of(method))
        row = [code(method) + (f" ({seeds} seeds)" if seeds > 1 else "")]
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
    return markdown_table(["method", *[c.heading for c in columns]], [*rows, counts])


def differences_section(board: Board) -> str:
    """Paired differences of the primary scores from the reference and from ``start``, with verdicts."""
    others = [m for m in dict.fromkeys([board.reference, "start"]) if m in board.methods]
    columns = [c for c in board.columns(primary=True) if c.metric.better]
    if not others or not columns or len(board.methods) < 2:
        return ""
    note = (
        "Paired on the same prompts. An interval is about one comparison; ▲ and ▼ hold for all comparisons of their "
        "column together (Holm, 5%), and p is shown where only that correction takes one back; ·: no difference shown. "
        "Last rows: the true difference that would be found with power 80% (median over the trained methods)."
    )
    tables = [f"### To {code(other)}\n\n{_difference_table(board, columns, other)}" for other in others]
    return "\n\n".join([*tables, note, *_pooled(board)])


def _pooled(board: Board) -> list[str]:
    """One paired test against the reference over all benchmarks; nothing where fewer than two can be pooled."""
    if board.reference not in board.methods:
        return []
    family = pooled_differences(board, board.reference)
    rows = []
    for difference in family.differences:
        items = family.pooled[difference.model].items
        counts = ", ".join(f"{name} {count}" for name, count in items.items())
        mark = f"{format_interval(difference.interval, '', sign=True)} {MARKS[difference.verdict]}"
        rows.append([code(difference.model), mark, f"{difference.p_holm:.2f}", counts])
    if not any(len(pooled.items) > 1 for pooled in family.pooled.values()):
        return []
    header = ["method", "difference, standard deviations of an item's", "p (Holm)", "items"]
    note = "The first primary metric of each benchmark; in each unit of its own, all items count alike."
    title = f"### To {code(board.reference)}, pooled over benchmarks"
    return [title, markdown_table(header, rows), note]


def _difference_table(board: Board, columns: Sequence[Column], other: str) -> str:
    families = [board.comparisons_with(other, column) for column in columns]
    rows = []
    for method in board.methods:
        if method == other:
            continue
        row = [code(method)]
        for column, family in zip(columns, families, strict=True):
            difference = family.get(method)
            if difference is None:
                row.append("not paired")
                continue
            by_correction = verdict_on(difference.interval, column.metric.better) != difference.verdict
            p = f" (p {difference.p_holm:.2f})" if by_correction else ""
            interval = format_interval(difference.interval, column.metric.unit, sign=True)
            row.append(f"{interval} {MARKS[difference.verdict]}{p}")
        rows.append(row)
    rows.append(["*smallest difference this set can show*", *detectable_cells(board, columns, other)])
    return markdown_table(["method", *[c.heading for c in columns]], rows)


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
        rows.append([code(method), *texts])
    return rows


def secondary_section(board: Board) -> str:
    """Metrics that are not primary, a row each; those of ``preference`` and ``curve`` are shown elsewhere."""
    columns = [c for c in board.columns(primary=False) if c.benchmark not in ("preference", "curve")]
    if not columns:
        return ""
    titles = [f"{c.benchmark}: {c.heading}" for c in columns]
    by_method = [row[1:] for row in value_rows(board, columns)]
    sizes = detectable_cells(board, columns, "start")
    rows = [[title, *[row[i] for row in by_method], sizes[i]] for i, title in enumerate(titles)]
    header = ["metric", *[code(m) for m in board.methods], "smallest difference to `start`"]
    return markdown_table(header, rows)
