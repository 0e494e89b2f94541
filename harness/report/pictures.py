"""The pictures of a leaderboard, as SVG text by file name."""

from __future__ import annotations

from harness.report.board import Board
from harness.report.costs import amount
from harness.report.main_table import device_hours
from harness.report.ranking import Ranking
from harness.report.reward_kl import reward_and_kl
from harness.report.svg import ChartPoint, Strip, line_chart, scatter_chart, strip_chart
from harness.score.bootstrap import Interval

COST, REWARD_KL, BUDGET_CURVE, SEEDS = "cost.svg", "reward-kl.svg", "curve.svg", "seeds.svg"


def pictures(board: Board, ranking: Ranking) -> dict[str, str]:
    """All pictures that the results have data for.

    Args:
        board: all results of a page.
        ranking: its first table.
    """
    texts = {
        REWARD_KL: _reward_against_kl(board),
        COST: _score_against_cost(board, ranking),
        BUDGET_CURVE: _budget_curve(board),
        SEEDS: _reward_by_seed(board),
    }
    return {name: text for name, text in texts.items() if text}


def _reward_against_kl(board: Board) -> str | None:
    """Gold reward against KL to the start policy; None where one of them was not measured."""
    both = reward_and_kl(board)
    if both is None or not both.points:
        return None
    points = [ChartPoint(*point) for point in both.points]
    run = board.results[0]
    title = f"{run.recipe}, {amount(run.budget['axis'], run.budget['limit'])}: gold reward against KL"
    unit = both.reward.metric.unit
    reward = "gold reward (share of constraints met)" if unit == "share met" else f"reward ({unit})"
    return scatter_chart(title, "KL to the start policy (nats per answer)", reward, points)


def _budget_curve(board: Board) -> str | None:
    """Gold reward at shares of the budget; None where no run was scored on the way."""
    columns = {c.metric.name: c for c in board.columns(benchmark="curve")}
    points = sorted(
        (float(name.removeprefix("reward_")), c) for name, c in columns.items() if name.startswith("reward_")
    )
    start = board.cell("start", points[-1][1]) if points and "start" in board.methods else None
    lines = []
    for method in board.methods:
        cells = [(x, board.cell(method, c)) for x, c in points]
        line = [(x, cell.interval) for x, cell in cells if cell and cell.n_valid == cell.n_total]
        if start and method != "start":
            line = [(0.0, start.interval), *line]
        if line:
            lines.append((method, line))
    if not lines:
        return None
    run = board.results[0]
    title = f"{run.recipe}: gold reward over the budget of {amount(run.budget['axis'], run.budget['limit'])}"
    return line_chart(title, "share of the budget", f"gold reward ({points[0][1].metric.unit})", lines)


def _reward_by_seed(board: Board) -> str | None:
    """Gold reward of each seed with the interval over seeds and prompts; None while no method has two seeds."""
    column = next((c for c in board.columns(benchmark="preference") if c.metric.name == "gold_reward"), None)
    if column is None or all(len(board.runs_of(m)) < 2 for m in board.methods):
        return None
    cells = {m: board.cell(m, column) for m in board.methods}
    rows = [Strip(m, c.interval, c.values.tolist()) for m, c in cells.items() if c and c.interval.has_value]
    run = board.results[0]
    title = f"{run.recipe}, {amount(run.budget['axis'], run.budget['limit'])}: gold reward by seed"
    return strip_chart(title, f"gold reward ({column.metric.unit}); dots: seeds, bar: mean with 95% interval", rows)


def _score_against_cost(board: Board, ranking: Ranking) -> str | None:
    """The headline score against what a run cost: hours where FLOPs are matched or were not counted, else FLOPs."""
    if not ranking.columns:
        return None
    column, budget = ranking.columns[0], board.results[0].budget
    rows = [row for row in ranking.rows if row.scores[0].cell and row.scores[0].cell.interval.has_value]
    spent = [row.costs for row in rows if row.costs]
    by_flops = budget["axis"] != "flops" and bool(spent) and all(costs.flops for costs in spent)
    points = []
    for row in rows:
        cell, costs = row.scores[0].cell, row.costs
        x = 0.0 if costs is None else (costs.flops or 0.0) if by_flops else costs.hours
        if cell is not None:
            points.append(ChartPoint(row.method, Interval(x, x, x, 0.0), cell.interval))
    if not points or not any(point.x.value for point in points):
        return None
    title = f"{board.results[0].recipe}, {amount(budget['axis'], budget['limit'])}: score against cost"
    unit = f"{column.title}, {column.metric.unit}; bars: 95% intervals"
    return scatter_chart(title, "FLOPs of a run" if by_flops else f"{device_hours(board)} of a run", unit, points)
