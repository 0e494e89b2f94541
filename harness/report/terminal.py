"""The scores and the verdict on the terminal, when a comparison ends."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.report.board import Board
from harness.report.plain import inert
from harness.report.ranking import Row, Score, ranking_of
from harness.report.rich_table import rich_table
from harness.report.score_notes import invalid_text, pending_text, replaced_text, stripped_text
from harness.report.summary import plain_sentences, summary_of
from harness.report.text import format_number, hours_text
from harness.score.results import read_results
from harness.score.verdicts import Verdict

COLOURS = {Verdict.BETTER: "green", Verdict.WORSE: "red"}
MARKS = {Verdict.BETTER: " ▲", Verdict.WORSE: " ▼"}


def print_scores(folder: Path, console: Console) -> None:
    """Print the first table of a leaderboard folder, what could not be used, and last its verdict.

    Args:
        folder: ``results/<recipe>/<budget>``.
        console: where to.
    """
    board = Board(read_results(folder))
    ranking = ranking_of(board)
    units = [column.metric.unit for column in ranking.columns]
    rows = [_cells(row, units) for row in ranking.rows]
    headings = [escape(inert(f"{column.title}\n{column.metric.unit}")) for column in ranking.columns]
    header = ["method", *headings, "hours", "FLOPs"]
    caption = f"95% intervals; green ▲ / red ▼: better / worse than {escape(inert(board.reference))}, plain: not shown"
    console.print(rich_table("", header, rows, caption=caption, left=header))
    for note in (pending_text(board), invalid_text(board), stripped_text(board), replaced_text(board)):
        if note:
            console.print(inert(note.replace("**", "").replace("`", "")), markup=False, soft_wrap=True)
    console.print()
    for sentence in plain_sentences(summary_of(board, ranking)):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _cells(row: Row, units: list[str]) -> list[str]:
    scores = [_score(score, unit) for score, unit in zip(row.scores, units, strict=True)]
    hours = hours_text(row.costs.hours) if row.costs else ""
    flops = f"{row.costs.flops:.3g}" if row.costs and row.costs.flops else ""
    return [escape(inert(row.method)), *scores, hours, flops]


def _score(score: Score, unit: str) -> str:
    if score.cell is None or not score.cell.interval.has_value:
        return score.missing or "n/a"
    interval = score.cell.interval
    value, low, high = (format_number(v, unit) for v in (interval.value, interval.low, interval.high))
    colour = COLOURS.get(score.verdict, "default") if score.verdict else "default"
    mark = MARKS.get(score.verdict, "") if score.verdict else ""
    return f"[{colour}]{value}{mark}[/]\n[dim]{low} to {high}[/]"
