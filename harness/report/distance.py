"""The section of a leaderboard page on the distance from the start policy: what a reward was bought with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.report.board import Board, Column
from harness.report.markdown import code, markdown_table
from harness.report.score_sections import detectable_cells, value_rows
from harness.report.text import format_interval
from harness.score.bootstrap import Interval

DIAGNOSTICS = (
    *("training_reward", "win_rate", "win_reference", "kl", "reverse_kl", "start_perplexity", "length", "truncated"),
    *("distinct_1", "distinct_2", "margin", "accuracy"),
)


class _Shown(NamedTuple):
    """A column as printed: ``cells``, one a method, and the smallest difference that it can show."""

    heading: str
    cells: list[str]
    smallest: str


def distance_section(board: Board) -> str:
    """Diagnostics of the ``preference`` benchmark, one column each."""
    columns = [c for c in board.columns(benchmark="preference") if c.metric.name in DIAGNOSTICS]
    if not columns:
        return ""
    note = (
        "A reward bought by leaving the language shows here: perplexity of the answers under the start policy, KL "
        "(Monte Carlo, one sample a prompt), length and truncation. The held-out margin is never ranked, nor is the "
        "accuracy on the same pairs: self-labelled methods widen the margin by construction, so it says how far the "
        "implicit reward moved and not whether the answers became better. No trial is chosen by them either."
    )
    if any(c.metric.name == "training_reward" for c in columns):
        note += (
            " A training oracle's reward that rises while the evaluation oracle's does not is over-optimisation: the "
            "method learned the first one's weaknesses."
        )
    shown = _shown_columns(board, columns)
    rows = [[code(method), *[s.cells[i] for s in shown]] for i, method in enumerate(board.methods)]
    rows.append(["*smallest difference to `start` this set can show*", *[s.smallest for s in shown]])
    table = markdown_table(["method", *[s.heading for s in shown]], rows)
    return f"{table}\n\n{note}"


def _shown_columns(board: Board, columns: Sequence[Column]) -> list[_Shown]:
    """The columns in order; wins against the reference by reward follow the wins against ``start``."""
    cells_by_column = zip(*[row[1:] for row in value_rows(board, columns)], strict=True)
    shown = []
    for column, cells, smallest in zip(
        columns, cells_by_column, detectable_cells(board, columns, "start"), strict=True
    ):
        heading = f"{column.metric.title}, {column.metric.unit}"
        if column.metric.name == "win_reference":
            shown.append(_Shown(heading, _wins_by_oracle(board, columns, cells), ""))
        else:
            shown.append(_Shown(heading, list(cells), smallest))
        by_reward = _wins_by_reward(board, column)
        if by_reward:
            shown.append(by_reward)
    return shown


def _wins_by_oracle(board: Board, columns: Sequence[Column], cells: Sequence[str]) -> list[str]:
    """Cells of wins against the reference method, as the oracle judged them.

    The oracle was not asked for ``start``, since it compared the reference method's answers with those of ``start``
    already: these wins, seen from the other side, are its cell. The reference's own cell is empty.
    """
    start_wins = _start_against_reference(board, columns)
    special = {"start": start_wins} if start_wins else {}
    special[board.reference] = ""
    return [special.get(method, cell) for method, cell in zip(board.methods, cells, strict=True)]


def _start_against_reference(board: Board, columns: Sequence[Column]) -> str | None:
    """Wins of ``start`` against the reference; None where the reference's wins against ``start`` are not known."""
    column = next((c for c in columns if c.metric.name == "win_rate"), None)
    cell = board.cell(board.reference, column) if column and board.reference in board.methods else None
    if cell is None:
        return None
    wins = cell.interval
    return format_interval(Interval(100 - wins.value, 100 - wins.high, 100 - wins.low, wins.error, wins.df), "win %")


def _wins_by_reward(board: Board, column: Column) -> _Shown | None:
    """The column of wins against the reference that follows from rewards; None unless ``column`` holds the wins against
    ``start`` and rewards exist. An oracle that compares answers gives none that can be paired."""
    other = board.reference
    if column.metric.name != "win_rate" or other == "start" or other not in board.methods:
        return None
    rewards = {c.protocol_hash: c for c in board.columns(benchmark="preference") if c.metric.name == "gold_reward"}
    reward = rewards.get(column.protocol_hash)
    if reward is None or reward.metric.estimator.column != "reward":
        return None
    cells = []
    for method in board.methods:
        wins = None if method == other else board.win_rate(method, other, reward)
        cells.append(format_interval(wins, "win %") if wins else "" if method == other else "not paired")
    return _Shown(f"win vs {code(other)}, win %", cells, "")
