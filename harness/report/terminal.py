"""The scores on the terminal, when a comparison ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.report.rich_table import rich_table

if TYPE_CHECKING:
    from rich.console import Console

    from harness.score.results import RunResult

COLOURS = {"better": "green", "worse": "red"}


class ScoreTable(NamedTuple):
    """The primary scores of a leaderboard, as :mod:`rich` prints them: cells with their colours, and notes below."""

    header: list[str]
    rows: list[list[str]]
    caption: str
    notes: list[str]


def score_table(results: Sequence[RunResult]) -> ScoreTable:
    """The primary scores of results, coloured where they differ from the reference method."""
    from harness.report.board import Board
    from harness.report.score_sections import invalid_text, pending_text, replaced_text, stripped_text
    from harness.report.text import format_number

    board = Board(results)
    columns = board.columns(primary=True)
    against = board.reference if board.reference in board.methods else "start"
    families = [board.comparisons_with(against, column) for column in columns]
    rows = []
    for method in board.methods:
        cells = []
        for column, family in zip(columns, families, strict=True):
            cell = board.cell(method, column)
            if cell is None or not cell.interval.has_value:
                cells.append("n/a")
                continue
            unit = column.metric.unit
            colour = COLOURS.get(family[method].verdict, "") if method in family else ""
            value, low, high = (
                format_number(v, unit) for v in (cell.interval.value, cell.interval.low, cell.interval.high)
            )
            cells.append(f"[{colour or 'default'}]{value}[/]\n[dim]{low} to {high}[/]")
        rows.append([method, *cells])
    header = ["method", *[f"{column.title}\n{column.metric.unit}" for column in columns]]
    caption = f"95% intervals; green / red: better / worse than {against}, plain: no difference shown"
    notes = (pending_text(board), invalid_text(board), stripped_text(board), replaced_text(board))
    return ScoreTable(header, rows, caption, [note.replace("**", "").replace("`", "") for note in notes if note])


def print_scores(table: ScoreTable, console: Console) -> None:
    """Print the scores and the notes below them."""
    console.print(rich_table("", table.header, table.rows, caption=table.caption, left=table.header))
    for note in table.notes:
        console.print(note, markup=False, soft_wrap=True)
