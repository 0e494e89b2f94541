"""The figures of a board: score against cost, reward against KL, over the budget and by seed, and differences."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from harness.report.board import Board, Column
from harness.report.costs import amount
from harness.report.figure_types import (
    Difference,
    Figure,
    Forest,
    Line,
    Lines,
    Mark,
    Panel,
    Scatter,
    Span,
    Strip,
    Strips,
)
from harness.report.ranking import headline_columns, is_trained
from harness.report.reward_kl import reward_and_kl
from harness.report.spent import SAME_COST, TimeUnit, spent_on, unit_of_time
from harness.store.foreign_text import one_line

COST, DIFFERENCES, REWARD_KL, CURVE, SEEDS = "cost", "differences", "reward-kl", "curve", "seeds"
"""Names of the figures, which their files have."""

CostAxis = Literal["flops", "hours"]

BOUGHT: dict[CostAxis, str] = {
    "flops": "stored pairs used, training, reference and sampling",
    "hours": "stored pairs used, training, reference, sampling and labels",
}
"""What a cost holds."""

INTERVALS = "Bars: 95% intervals"


def figures_of(board: Board, cost: CostAxis | None = None) -> list[Figure]:
    """Every figure that the results have numbers for.

    Args:
        board: all results of a page.
        cost: of the chart of score against cost; chosen as in :func:`score_against_cost` if None.
    """
    figures = page_figures(board, cost)
    differences = forest(board)
    return figures if differences is None else [*figures, differences]


def page_figures(board: Board, cost: CostAxis | None = None) -> list[Figure]:
    """Those that stand beside a leaderboard, whose table has the differences; the arguments are those of
    :func:`figures_of`."""
    figures = [
        score_against_cost(board, cost=cost),
        reward_against_kl(board),
        reward_over_budget(board),
        reward_by_seed(board),
    ]
    return [figure for figure in figures if figure is not None]


def score_against_cost(board: Board, column: Column | None = None, cost: CostAxis | None = None) -> Scatter | None:
    """The chart of a score against what one run of the method spent; None where no method has both.

    Args:
        board: all results of a page.
        column: the score; the headline if None.
        cost: the axis. Where None, it is one that tells the methods apart: FLOPs, but time where the budget matches
            FLOPs, where they were not counted for all, or where all spent about as many.
    """
    column = column or next(iter(headline_columns(board)), None)
    if column is None:
        return None
    axis = cost or _telling_axis(board)
    unit, size = TimeUnit("FLOPs", 1.0) if axis == "flops" else _unit_of_time(board)
    marks, levels, left_out = [], [], 0
    for look, method in enumerate(board.methods):
        cell, spent = board.cell(method, column), _spent(board, method, axis)
        if cell is None or not cell.interval.has_value:
            continue
        if spent:
            costs = [value / size for value in spent]
            low, mean, high = sorted((min(costs), fmean(costs), max(costs)))  # a mean may miss equal costs by a bit
            x = Span(mean, low, high)
            marks.append(Mark(one_line(method), look, x, Span.of(cell.interval)))
        elif not _is_trained(board, method):
            levels.append(Mark(one_line(method), look, Span(0.0, 0.0, 0.0), Span.of(cell.interval)))
        else:
            left_out += 1
    if not marks:
        return None
    place = "" if axis == "flops" else " on a GPU" if _on_gpu(board) else " on a CPU"
    over_seeds = ", of cost from the least to the most over seeds" if any(m.x.low < m.x.high for m in marks) else ""
    note = f"{INTERVALS}{over_seeds}. Cost: {BOUGHT[axis]}."
    note += f" Rows left out, as their {unit} were not recorded: {left_out}." if left_out else ""
    return Scatter(
        name=COST,
        title=f"{_heading(board)}: score against cost",
        x_title=f"{unit} of a run{place}",
        y_title=_titled(column),
        note=note,
        marks=_best_first(marks, column.metric.better),
        levels=tuple(levels),
        better=column.metric.better,
    )


def _telling_axis(board: Board) -> CostAxis:
    """The axis of costs on which methods differ."""
    trained = [m for m in board.methods if _is_trained(board, m)]
    flops = [values for m in trained if (values := _spent(board, m, "flops"))]
    means = [fmean(values) for values in flops]
    if not means or len(means) < len(trained):
        return "hours"
    matched = board.results[0].budget["axis"]
    same = len(means) > 1 and max(means) <= SAME_COST * min(means)
    timed = any(_spent(board, m, "hours") for m in trained)
    return "hours" if timed and (matched == "flops" or same) and matched != "seconds" else "flops"


def _spent(board: Board, method: str, axis: CostAxis) -> list[float]:
    """FLOPs or seconds of each run of a method; none if it was not trained or spent nothing."""
    runs = board.runs_of(method) if _is_trained(board, method) else []
    spent = [spent_on(run, "flops" if axis == "flops" else "seconds") for run in runs]
    return spent if any(spent) else []


def _is_trained(board: Board, method: str) -> bool:
    return method != "start" and any(map(is_trained, board.runs_of(method)))


def _unit_of_time(board: Board) -> TimeUnit:
    """Unit of time in which the longest run is a number to read."""
    return unit_of_time(max((second for m in board.methods for second in _spent(board, m, "hours")), default=0.0))


def _on_gpu(board: Board) -> bool:
    return any(run.environment.get("gpu") for run in board.finished)


def _best_first(marks: Sequence[Mark], better: int) -> tuple[Mark, ...]:
    return tuple(sorted(marks, key=lambda m: (round(-better * m.y.value, 9), m.name)))


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
    title = f"{_heading(board)}: difference to {one_line(against)}"
    note = "Bars: 95% intervals, paired. Filled: a difference is shown (Holm)."
    return Forest(DIFFERENCES, title, one_line(against), note, tuple(panels))


def reward_against_kl(board: Board) -> Scatter | None:
    """Reward against KL to the start policy; None where one of them was not measured."""
    both = reward_and_kl(board)
    if both is None or not both.points:
        return None
    looks = {method: look for look, method in enumerate(board.methods)}
    marks = [Mark(one_line(p.method), looks[p.method], Span.of(p.kl), Span.of(p.reward)) for p in both.points]
    title = f"{_heading(board)}: reward against KL"
    in_order = _best_first(marks, both.reward.metric.better or 1)
    return Scatter(REWARD_KL, title, _titled(both.kl), _titled(both.reward), f"{INTERVALS}.", in_order)


def reward_over_budget(board: Board) -> Lines | None:
    """Gold reward at shares of the budget; None where no run was scored on the way."""
    prefix = "reward_"
    named = [c for c in board.columns(benchmark="curve") if c.metric.name.startswith(prefix)]
    columns = {float(c.metric.name.removeprefix(prefix)): c for c in named}
    lines = []
    for look, method in enumerate(board.methods):
        cells = [(share, board.cell(method, columns[share])) for share in sorted(columns)]
        points = [(share, Span.of(c.interval)) for share, c in cells if c and c.n_valid == c.n_total > 0]
        start = board.cell("start", columns[max(columns)]) if points else None
        if start and start.interval.has_value:  # its interval is drawn once, on its own line
            value = start.interval.value
            points = [(0.0, Span.of(start.interval) if method == "start" else Span(value, value, value)), *points]
        if points:
            lines.append(Line(one_line(method), look, tuple(points)))
    if not lines:
        return None
    unit = named[0].metric.unit
    x_title = f"share of the budget of {_limit(board)}"
    title = f"{_heading(board)}: reward over the budget"
    lines.sort(key=lambda line: (round(-line.points[-1][1].value, 9), line.name))
    return Lines(CURVE, title, x_title, f"gold reward, {unit}", f"{INTERVALS}.", tuple(lines))


def reward_by_seed(board: Board) -> Strips | None:
    """Gold reward of each seed with the interval over seeds and prompts; None while no method has two seeds."""
    column = next((c for c in board.columns(benchmark="preference") if c.metric.name == "gold_reward"), None)
    if column is None or all(len(board.runs_of(m)) < 2 for m in board.methods):
        return None
    cells = {m: cell for m in board.methods if (cell := board.cell(m, column)) and cell.interval.has_value}
    strips = [
        Strip(one_line(m), Span.of(c.interval), tuple(v for v in c.values.tolist() if v == v)) for m, c in cells.items()
    ]
    if not strips:
        return None
    strips.sort(key=lambda strip: (round(-strip.mean.value, 9), strip.name))
    title, note = (
        f"{_heading(board)}: reward by seed",
        "Short marks: seeds. Dot and bar: mean with 95% interval.",
    )
    return Strips(SEEDS, title, _titled(column), note, tuple(strips))


def _heading(board: Board) -> str:
    run = board.results[0]
    return one_line(f"{run.recipe}, {_limit(board)}")


def _limit(board: Board) -> str:
    """The budget in words."""
    budget = board.results[0].budget
    return amount(budget["axis"], budget["limit"])


def _titled(column: Column) -> str:
    return one_line(f"{column.title}, {column.metric.unit}")
