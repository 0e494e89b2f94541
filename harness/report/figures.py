"""The numbers of pictures for papers: score against cost, differences with intervals, reward against KL.

A picture is drawn from these numbers alone (:mod:`.drawing`) and they are kept beside it as JSON. So a check compares
numbers, and no picture has to be equal byte by byte.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, NamedTuple

from harness.report.board import Board, Column
from harness.report.costs import amount
from harness.report.plain import one_line
from harness.report.reward_kl import reward_and_kl
from harness.report.spent import spent_on
from harness.score.bootstrap import Interval
from harness.store.json_files import digest

CostAxis = Literal["flops", "hours"]

COST_TITLES: dict[CostAxis, str] = {
    "flops": "FLOPs: stored pairs used, training, reference, sampling",
    "hours": "hours of one device: stored pairs used, training, reference, sampling, labels",
}


class Span(NamedTuple):
    """A value with the ends of its interval; the value itself where there is no interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval) -> Span:
        """Of an interval that has a value."""
        ends = [end if isfinite(end) else interval.value for end in (interval.low, interval.high)]
        return cls(interval.value, *ends)


@dataclass(frozen=True)
class Mark:
    """A row in a scatter chart."""

    name: str
    x: Span
    y: Span


@dataclass(frozen=True)
class Scatter:
    """Rows by two quantities.

    Attributes:
        name: of its files.
        title, x_title, y_title: above the chart and on its axes.
        marks: the rows.
        level: a row without a place on the horizontal axis (it cost nothing), drawn as a line across.
        better: 1 if a higher y is better, -1 if a lower one is; the chart then has a line of the best y at each x or
            less. 0: no line.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    marks: tuple[Mark, ...]
    level: Mark | None = None
    better: int = 0


@dataclass(frozen=True)
class Difference:
    """A row of a forest plot: minus the reference, and whether a difference is shown."""

    name: str
    span: Span
    shown: bool


@dataclass(frozen=True)
class Panel:
    """One metric of a forest plot, in its unit."""

    title: str
    unit: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Forest:
    """Differences to a reference with their intervals, a panel for each metric."""

    name: str
    title: str
    reference: str
    panels: tuple[Panel, ...]


Figure = Scatter | Forest


def record(figure: Figure) -> dict[str, Any]:
    """The JSON form of a figure's numbers, rounded to 8 significant digits."""
    numbers: dict[str, Any] = _rounded({"kind": type(figure).__name__.lower()} | asdict(figure))
    return numbers


def figure_key(figure: Figure) -> str:
    """Hash of a figure's numbers, which each picture made from them carries."""
    return digest(record(figure))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def figures_of(board: Board, cost: CostAxis | None = None) -> list[Figure]:
    """Every figure that the results have numbers for.

    Args:
        board: all results of a page.
        cost: of the chart of score against cost; where None, FLOPs if they were counted, else hours.
    """
    figures = [score_against_cost(board, cost=cost), forest(board), reward_against_kl(board)]
    return [figure for figure in figures if figure is not None]


def score_against_cost(board: Board, column: Column | None = None, cost: CostAxis | None = None) -> Scatter | None:
    """The chart of a score against what the method spent; None where no method has both.

    Args:
        board: all results of a page.
        column: the score; the first primary one of which one direction is better if None.
        cost: the axis; where None, FLOPs if they were counted, else hours.
    """
    column = column or next((c for c in board.columns(primary=True) if c.metric.better), None)
    if column is None:
        return None
    spent = {axis: {m: _spent(board, m, axis) for m in board.methods} for axis in COST_TITLES}
    counted: list[CostAxis] = [axis for axis in COST_TITLES if any(s and s.value for s in spent[axis].values())]
    axis = cost or (counted[0] if counted else "flops")
    marks, level = [], None
    for method in board.methods:
        cell, place = board.cell(method, column), spent[axis][method]
        if cell is None or not cell.interval.has_value:
            continue
        mark = Mark(one_line(method), place or Span(0.0, 0.0, 0.0), Span.of(cell.interval))
        if place is not None and place.value > 0:
            marks.append(mark)
        elif method == "start":
            level = mark
    if not marks:
        return None
    title = f"{_heading(board)}: score against cost"
    return Scatter("score-cost", title, COST_TITLES[axis], _titled(column), tuple(marks), level, column.metric.better)


def _spent(board: Board, method: str, axis: CostAxis) -> Span | None:
    """What a method spent, the mean over seeds with the least and the most; None for one that was not trained."""
    runs = [run for run in board.runs_of(method) if run.learning_rate is not None and run.ledger]
    if not runs:
        return None
    on_axis, unit = ("flops", 1.0) if axis == "flops" else ("seconds", 3600.0)
    amounts = [spent_on(run, on_axis) / unit for run in runs]
    return Span(sum(amounts) / len(amounts), min(amounts), max(amounts))


def forest(board: Board, other: str | None = None) -> Forest | None:
    """Differences of all primary scores to a row, with 95% intervals; None where nothing can be paired.

    Args:
        board: all results of a page.
        other: the row to compare with; the reference, or ``start`` where there is no reference, if None.
    """
    against = other or (board.reference if board.reference in board.methods else "start")
    panels = []
    for column in board.columns(primary=True):
        if not column.metric.better:
            continue
        family = board.comparisons_with(against, column)
        rows = [
            Difference(one_line(m), Span.of(family[m].interval), family[m].verdict in ("better", "worse"))
            for m in board.methods
            if m in family
        ]
        if rows:
            panels.append(Panel(one_line(column.title), one_line(column.metric.unit), tuple(rows)))
    if not panels:
        return None
    return Forest("differences", f"{_heading(board)}: difference to {against}", one_line(against), tuple(panels))


def reward_against_kl(board: Board) -> Scatter | None:
    """Reward against KL to the start policy; None where one of them was not measured."""
    both = reward_and_kl(board)
    if both is None or not both.points:
        return None
    marks = [Mark(one_line(p.method), Span.of(p.kl), Span.of(p.reward)) for p in both.points]
    title = f"{_heading(board)}: reward against KL"
    return Scatter("reward-kl", title, _titled(both.kl), _titled(both.reward), tuple(marks))


def _heading(board: Board) -> str:
    run = board.results[0]
    return one_line(f"{run.recipe}, {amount(run.budget['axis'], run.budget['limit'])}")


def _titled(column: Column) -> str:
    return one_line(f"{column.title}, {column.metric.unit}")
