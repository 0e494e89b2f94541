"""The scores on the terminal, when a comparison ends."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.report.board import Board
from harness.report.rich_table import rich_table
from harness.report.score_sections import invalid_text, pending_text, replaced_text, stripped_text
from harness.report.text import format_number
from harness.score.results import read_results

COLOURS = {"better": "green", "worse": "red"}


def print_scores(folder: Path, console: Console) -> None:
    """Print the primary scores of a leaderboard folder, coloured where they differ from the reference method."""
    board = Board(read_results(folder))
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
    console.print(rich_table("", header, rows, caption=caption, left=header))
    for note in (pending_text(board), invalid_text(board), stripped_text(board), replaced_text(board)):
        if note:
            console.print(note.replace("**", "").replace("`", ""), markup=False, soft_wrap=True)
