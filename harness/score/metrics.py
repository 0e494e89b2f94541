"""Metrics of a benchmark: declared by name and estimator, then evaluated on per-prompt columns."""

from __future__ import annotations

import math
from typing import Literal

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
    """A metric still without its value.

    Args:
        name: how results and code call it.
        title: how tables call it.
        unit: as tables print it; it also sets the number of digits (:func:`harness.report.text.format_number`).
        better: 1 if higher is better, -1 if lower is, 0 if neither (a cost or a diagnostic).
        kind: a name in :data:`harness.score.estimators.ESTIMATORS`.
        column: the per-prompt column that it estimates from; "" if the estimator uses none.
        group: the group of columns that ``column`` is in.
        primary: whether it stands in the table of scores and is compared between methods.
    """
    estimator = Estimator(kind=kind, group=group, column=column)
    return Metric(name=name, title=title, unit=unit, better=better, primary=primary, estimator=estimator)


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def evaluate(metric: Metric, items: dict[str, Columns]) -> Metric:
    """The metric with value, interval, minimum detectable difference and counts.

    Args:
        metric: as :func:`metric` declared it; a value that it has is replaced.
        items: per-prompt columns by group.
    """
    from harness.score.bootstrap import interval, replicates
    from harness.score.columns import prompts_with_value

    columns = items[metric.estimator.group]
    value, samples = replicates(metric.estimator.kind, columns, metric.estimator.column)
    estimate = interval(value, samples, prompts_with_value(columns, metric.estimator.column))
    values = columns[metric.estimator.column] if metric.estimator.column else columns["id"]
    flat = [v for row in values for v in (row if isinstance(row, list) else [row])]
    total, valid = len(flat), sum(v is not None for v in flat)
    return metric.model_copy(
        update={
            "value": _rounded(value),
            "low": _rounded(estimate.low),
            "high": _rounded(estimate.high),
            "mdd": _rounded(2**0.5 * estimate.mdd),
            "n_valid": valid,
            "n_total": total,
        }
    )
