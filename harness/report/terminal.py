"""The first table and the verdict of a comparison for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.report.rich_table import rich_table
from harness.store.foreign_text import inert

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.ranking import Row, Score
    from harness.report.spent import TimeUnit
    from harness.score.fits import KeptFits
    from harness.score.results import RunResult

COLOURS = {"better": "green", "worse": "red"}
MARKS = {"better": " ▲", "worse": " ▼"}


class ScoreTable(NamedTuple):
    """The first table of a page, as :mod:`rich` prints it: cells with their colours; notes; the verdict's sentences."""

    header: list[str]
    rows: list[list[str]]
    caption: str
    notes: list[str]
    verdict: list[str]


def score_table(results: Sequence[RunResult], fits: KeptFits | None = None) -> ScoreTable:
    """The first table of a page, what could not be used, and the verdict; with the fits that were made before."""
    from rich.markup import escape

    from harness.report.board import Board
    from harness.report.ranking import ranking_of, time_of
    from harness.report.score_notes import invalid_text, pending_text, replaced_text, stripped_text
    from harness.report.summary import plain_sentences, summary_of

    board = Board(results, fits)
    ranking = ranking_of(board)
    units, time = [column.metric.unit for column in ranking.columns], time_of(ranking)
    headings = [escape(f"{column.title}\n{column.metric.unit}") for column in ranking.columns]
    notes = (pending_text(board), invalid_text(board), stripped_text(board), replaced_text(board))
    return ScoreTable(
        ["method", *headings, time.name, "FLOPs"],
        [_cells(row, units, time) for row in ranking.rows],
        f"95% intervals; green ▲ / red ▼: better / worse than {escape(board.reference)}, plain: not shown",
        [note.replace("**", "").replace("`", "") for note in notes if note],
        list(plain_sentences(summary_of(board, ranking))),
    )


def print_scores(table: ScoreTable, console: Console) -> None:
    """Print the table, the notes below it, and last the verdict."""
    console.print(rich_table("", table.header, table.rows, caption=table.caption, left=table.header))
    for note in table.notes:
        console.print(inert(note), markup=False, soft_wrap=True)
    console.print()
    for sentence in table.verdict:
        console.print(inert(sentence), markup=False, highlight=False, soft_wrap=True)


def _cells(row: Row, units: list[str], time: TimeUnit) -> list[str]:
    from rich.markup import escape

    from harness.report.text import power_text, time_text

    scores = [_score(score, unit) for score, unit in zip(row.scores, units, strict=True)]
    spent = time_text(3600 * row.costs.hours / time.seconds) if row.costs else ""
    flops = power_text(row.costs.flops) if row.costs and row.costs.flops else ""
    return [escape(row.method), *scores, spent, flops]


def _score(score: Score, unit: str) -> str:
    from harness.report.text import format_number

    if score.cell is None or not score.cell.interval.has_value:
        return score.missing or "n/a"
    interval = score.cell.interval
    value, low, high = (format_number(v, unit) for v in (interval.value, interval.low, interval.high))
    colour = COLOURS.get(score.verdict, "default") if score.verdict else "default"
    mark = MARKS.get(score.verdict, "") if score.verdict else ""
    return f"[{colour}]{value}{mark}[/]\n[dim]{low} to {high}[/]"
