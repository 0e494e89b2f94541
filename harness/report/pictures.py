"""The pictures of a leaderboard, as SVG text by file name."""

from __future__ import annotations

from harness.report.board import Board
from harness.report.costs import amount
from harness.report.svg import ChartPoint, Strip, line_chart, scatter_chart, strip_chart, table_picture
from harness.report.text import format_number

REWARD_KL, SCORES, BUDGET_CURVE, SEEDS = "reward-kl.svg", "leaderboard.svg", "curve.svg", "seeds.svg"

SHADES = {"better": "#dcfce7", "worse": "#fee2e2"}


def pictures(board: Board) -> dict[str, str]:
    """All pictures that the results have data for."""
    texts = {
        REWARD_KL: _reward_against_kl(board),
        SCORES: _scores(board),
        BUDGET_CURVE: _budget_curve(board),
        SEEDS: _reward_by_seed(board),
    }
    return {name: text for name, text in texts.items() if text}


def _reward_against_kl(board: Board) -> str | None:
    """Gold reward against KL to the start policy; None where one of them was not measured."""
    columns = {c.metric.name: c for c in board.columns(benchmark="preference")}
    if "kl" not in columns or "gold_reward" not in columns:
        return None
    points = []
    for method in board.methods:
        x, y = board.cell(method, columns["kl"]), board.cell(method, columns["gold_reward"])
        if x and y and x.interval.has_value and y.interval.has_value:
            points.append(ChartPoint(method, x.interval, y.interval))
    if not points:
        return None
    run = board.results[0]
    title = f"{run.recipe}, {amount(run.budget['axis'], run.budget['limit'])}: gold reward against KL"
    unit = columns["gold_reward"].metric.unit
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


def _scores(board: Board) -> str | None:
    """The primary scores as a table; None where no run has finished."""
    if not board.methods:
        return None
    columns = board.columns(primary=True)
    against = board.reference if board.reference in board.methods else "start"
    families = [board.comparisons_with(against, column) for column in columns]
    rows = []
    for method in board.methods:
        row: list[tuple[str, str, str | None]] = [(method, "", None)]
        for column, family in zip(columns, families, strict=True):
            cell = board.cell(method, column)
            if cell is None or not cell.interval.has_value:
                row.append(("n/a", "", None))
                continue
            unit = column.metric.unit
            low, high = format_number(cell.interval.low, unit), format_number(cell.interval.high, unit)
            span = f"{low} to {high}" if cell.interval.error else "no spread"
            shade = SHADES.get(family[method].verdict) if method in family else None
            row.append((format_number(cell.interval.value, unit), span, shade))
        rows.append(row)
    run = board.results[0]
    title = f"{run.recipe}: matched on {amount(run.budget['axis'], run.budget['limit'])}"
    shades = f"Green / red: better / worse than {against} on the same prompts (Holm); white: no difference shown."
    note = f"95% intervals. {shades}"
    header = [("method", "")] + [(c.metric.title, f"{c.label}, {c.metric.unit}".removeprefix(", ")) for c in columns]
    return table_picture(title, note, header, rows)
