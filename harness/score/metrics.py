"""Metrics of a benchmark: declared by name and estimator, then evaluated on per-prompt columns."""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness.score.bootstrap import interval, replicates, valued
from harness.score.results import Columns, Estimator, Metric


def metric(
    name: str,
    title: str,
    unit: str,
    better: Literal[-1, 0, 1],
    kind: str,
    column: str = "",
    *,
    group: str = "items",
    primary: bool = False,
) -> Metric:
    """A metric still without its value."""
    estimator = Estimator(kind=kind, group=group, column=column)
    return Metric(name=name, title=title, unit=unit, better=better, primary=primary, estimator=estimator)


def _number(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def evaluate(metric: Metric, items: dict[str, Columns]) -> Metric:
    """The metric with value, interval, minimum detectable difference and counts."""
    columns = items[metric.estimator.group]
    value, samples = replicates(metric.estimator.kind, columns, metric.estimator.column)
    found = interval(value, samples, valued(columns, metric.estimator.column))
    values = columns[metric.estimator.column] if metric.estimator.column else columns["id"]
    flat = [v for row in values for v in (row if isinstance(row, list) else [row])]
    total, valid = len(flat), sum(v is not None for v in flat)
    return metric.model_copy(
        update={
            "value": _number(value),
            "low": _number(found.low),
            "high": _number(found.high),
            "mdd": _number(2**0.5 * found.mdd),
            "n_valid": valid,
            "n_total": total,
        }
    )
