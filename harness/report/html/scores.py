"""Scores for the page: the table, who spends least for a score, reward against KL, wins, categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.budget.ledger import AXES
from harness.report.board import Board, Column
from harness.report.ranking import headline_columns, is_control
from harness.report.reward_kl import reward_and_kl
from harness.report.spent import mean_spent, unit_of_time
from harness.score.bootstrap import SCALES, Interval
from harness.score.columns import Array, float_column
from harness.score.results import RunResult

AXIS_TITLES = {
    "flops": "training FLOPs",
    "seconds": "training hours",
    "oracle_calls": "labels",
    "generated_tokens": "tokens sampled",
    "train_tokens": "tokens trained on",
    "pairs": "pairs trained on",
    "steps": "optimiser steps",
}


class Point(NamedTuple):
    """A method's cost and score."""

    method: str
    cost: float
    score: float


def column_id(column: Column) -> str:
    """A name for a column that no other has."""
    return f"{column.benchmark}/{column.metric.name}/{column.protocol_hash}"


def interval_json(interval: Interval | None) -> dict[str, Any] | None:
    """An interval as JSON; None where there is no value. ``low`` and ``high`` are None where nothing spreads."""
    if interval is None or not interval.has_value:
        return None
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def methods_json(board: Board) -> list[dict[str, Any]]:
    """What each row is, in the order of the board; then the runs that failed."""
    rows = []
    for method in board.methods:
        runs = board.runs_of(method)
        rows.append(
            {
                "name": method,
                "role": _role(board, runs[0]),
                "summary": runs[0].method_summary,
                "paper": runs[0].method_paper,
                "options": ", ".join(f"{k} {v}" for k, v in runs[0].method_options.items()),
                "seeds": [r.seed for r in runs],
                "learning_rate": sorted({r.learning_rate for r in runs if r.learning_rate is not None}),
                "pending": sorted({title for r in runs for title in r.pending}),
            }
        )
    return rows


def failures_json(board: Board) -> list[dict[str, Any]]:
    """Runs that failed, and why."""
    return [{"method": r.method, "seed": r.seed, "why": r.error} for r in board.results if r.error]


def _role(board: Board, run: RunResult) -> str:
    if run.method == board.reference:
        return "reference"
    return "control" if is_control(run) else "method"


def columns_json(board: Board) -> list[dict[str, Any]]:
    """Every metric of the board, with each method's value and its difference to the reference.

    ``headline``: whether the verdict reads it.
    """
    headlines = {column.key for column in headline_columns(board)}
    return [_column_json(board, column) | {"headline": column.key in headlines} for column in board.columns()]


def _column_json(board: Board, column: Column) -> dict[str, Any]:
    metric = column.metric
    differences = {}
    if board.reference in board.methods and metric.primary:
        for method, d in board.comparisons_with(board.reference, column).items():
            shown = interval_json(d.interval) or {}
            differences[method] = shown | {"p": d.p_holm, "verdict": str(d.verdict)}
    cells = {}
    for method in board.methods:
        cell = board.cell(method, column)
        if cell is not None and cell.interval.has_value:
            counts = {"n": cell.n_valid, "of": cell.n_total}
            cells[method] = (interval_json(cell.interval) or {}) | counts
    return {
        "id": column_id(column),
        "benchmark": column.benchmark,
        "protocol": column.protocol_hash,
        "metric": metric.name,
        "title": metric.title,
        "label": column.label,
        "unit": metric.unit,
        "better": metric.better,
        "primary": metric.primary,
        "detectable": board.detectable(column, board.reference) if metric.primary else None,
        "cells": cells,
        "differences": differences,
    }


def costs_json(board: Board) -> dict[str, Any]:
    """What each method spent on each axis, the mean over its seeds. Times are in a unit of ``time`` seconds."""
    spent: dict[str, dict[str, float]] = {}
    for method in board.methods:
        spent[method] = {axis: mean_spent(board.runs_of(method), axis) for axis in AXES}
    matched = board.results[0].budget["axis"] if board.results else ""
    unit = unit_of_time(max((row["seconds"] for row in spent.values()), default=0.0))
    for row in spent.values():
        row["seconds"] /= unit.seconds
    used = [a for a in AXIS_TITLES if a in AXES and (a == matched or any(row[a] for row in spent.values()))]
    titles = AXIS_TITLES | {"seconds": f"training {unit.name}"}
    axes = [{"id": a, "title": titles[a]} for a in used]
    return {"axes": axes, "matched": matched, "spent": spent, "time": unit.seconds}


def pareto_json(columns: Sequence[Mapping[str, Any]], costs: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """For each column that has a better direction, and each axis of cost, the methods of the Pareto line."""
    lines: dict[str, dict[str, list[str]]] = {}
    for column in columns:
        if not column["better"] or not column["primary"]:
            continue
        by_axis = lines.setdefault(column["id"], {})
        for axis in costs["axes"]:
            points = [
                Point(m, costs["spent"][m][axis["id"]], column["better"] * cell["value"])
                for m, cell in column["cells"].items()
            ]
            by_axis[axis["id"]] = pareto(points)
    return lines


def pareto(points: Sequence[Point]) -> list[str]:
    """Methods that no other beats at the same cost or less, cheapest first. Of equal points all stay.

    Args:
        points: a higher score is better.
    """
    front: list[str] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score)):
        beaten = any(
            q.cost <= point.cost and q.score >= point.score and (q.cost, q.score) != (point.cost, point.score)
            for q in points
        )
        if not beaten:
            front.append(point.method)
    return front


def wins_json(board: Board) -> list[dict[str, Any]]:
    """For each headline score that is a mean over prompts, how often each method's value beats each other's."""
    matrices = []
    for column in board.columns(primary=True):
        if not column.metric.better or not _has_values_by_prompt(board, column):
            continue
        measured = [m for m in board.methods if board.cell(m, column)]
        cells: dict[str, dict[str, Any]] = {m: {} for m in measured}
        for place, method in enumerate(measured):
            for other in measured[place + 1 :]:
                rate = board.win_rate(method, other, column)
                if rate is None or not rate.has_value:
                    continue
                ours = interval_json(rate) or {}
                theirs = {"value": 100 - rate.value, "low": 100 - rate.high, "high": 100 - rate.low}
                better = column.metric.better > 0
                cells[method][other], cells[other][method] = (ours, theirs) if better else (theirs, ours)
        matrices.append({"id": column_id(column), "title": column.title, "methods": measured, "cells": cells})
    return matrices


def _has_values_by_prompt(board: Board, column: Column) -> bool:
    estimator = column.metric.estimator
    if estimator.kind not in SCALES:  # a mean of a column, so that prompts can be compared one by one
        return False
    for run in board.finished:
        scored = run.benchmark(column.benchmark)
        if scored is not None and scored.protocol_hash == column.protocol_hash:
            return not any(isinstance(v, list) for v in scored.items[estimator.group][estimator.column])
    return False


def categories_json(board: Board) -> list[dict[str, Any]]:
    """For each headline score whose items name a category or a subject, the mean of each."""
    tables = []
    for column in board.columns(primary=True):
        if not _has_values_by_prompt(board, column):
            continue
        scale = SCALES[column.metric.estimator.kind]
        rows = []
        for method in board.methods:
            for name, values in _by_category(board, method, column).items():
                error = float(values.std(ddof=1)) / len(values) ** 0.5 * scale if len(values) > 1 else None
                mean = float(values.mean()) * scale
                rows.append({"method": method, "category": name, "value": mean, "error": error, "n": len(values)})
        if rows:
            shown = {"id": column_id(column), "title": column.title, "unit": column.metric.unit}
            tables.append(shown | {"better": column.metric.better, "rows": rows})
    return tables


def _by_category(board: Board, method: str, column: Column) -> dict[str, Array]:
    """Valid values of a method's items by category, the mean over its seeds."""
    by_seed, labels = [], None
    for run in board.runs_of(method):
        scored = run.benchmark(column.benchmark)
        if scored is None or scored.protocol_hash != column.protocol_hash:
            continue
        items = scored.items[column.metric.estimator.group]
        names = items.get("category") or items.get("subject")
        if names is not None and (labels is None or names == labels):
            labels = names
            by_seed.append(float_column(items, column.metric.estimator.column))
    if labels is None:
        return {}
    values, of_item = np.mean(by_seed, axis=0), np.array(labels)
    by_name = {str(name): values[(of_item == name) & np.isfinite(values)] for name in dict.fromkeys(labels)}
    return {name: part for name, part in by_name.items() if len(part)}


def distance_json(board: Board) -> dict[str, Any] | None:
    """Reward against KL to the start policy; None where they were not measured."""
    both = reward_and_kl(board)
    if both is None:
        return None
    points = [{"method": p.method, "kl": interval_json(p.kl), "reward": interval_json(p.reward)} for p in both.points]
    reward_metric, kl_metric = both.reward.metric, both.kl.metric
    return {
        "reward": f"{reward_metric.title} ({reward_metric.unit})",
        "kl": f"{kl_metric.title} ({kl_metric.unit})",
        "points": points,
        "paths": _paths(board),
    }


def _paths(board: Board) -> list[dict[str, Any]]:
    """Where a method was at each share of the budget, if ``curve`` was measured."""
    columns = {c.metric.name: c for c in board.columns(benchmark="curve")}
    shares = [name.removeprefix("reward_") for name in columns if name.startswith("reward_")]
    rows = []
    for method in board.methods:
        for share in sorted(shares, key=float):
            kl, reward = (board.cell(method, columns[f"{kind}_{share}"]) for kind in ("kl", "reward"))
            if kl is not None and reward is not None and kl.interval.has_value and reward.interval.has_value:
                point = {"kl": kl.interval.value, "reward": reward.interval.value}
                rows.append({"method": method, "share": float(share)} | point)
    return rows
