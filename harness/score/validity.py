"""The one gate that every per-prompt value passes before it counts: type, finiteness, range. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.score.results import Columns, Metric

NO_VALUE = "no value"
NOT_A_NUMBER = "not a number"
NOT_FINITE = "not finite"

Range = tuple[float, float]


class Invalid(NamedTuple):
    """Stands in a column where a value is missing, and says why."""

    reason: str


class Checked(NamedTuple):
    """Columns by group with None for every value that is not valid, and by metric how many there are, by reason."""

    columns: dict[str, Columns]
    invalid: dict[str, dict[str, int]]


def value_or_reason(value: Any, limits: Range | None = None) -> float | Invalid:
    """A value that may be averaged, or why it may not.

    Args:
        value: of any type; a truth value counts as 0 or 1.
        limits: least and greatest value, both allowed.
    """
    if isinstance(value, Invalid):
        return value
    if value is None:
        return Invalid(NO_VALUE)
    if not isinstance(value, int | float):
        return Invalid(NOT_A_NUMBER)
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        finite = False
    if not finite:
        return Invalid(NOT_FINITE)
    if limits is not None and not limits[0] <= value <= limits[1]:
        return Invalid(f"outside {limits[0]:g} to {limits[1]:g}")
    return value


def columns_fault(groups: Any, metrics: Any) -> str:
    """Why columns and metrics of a benchmark cannot be scored; empty if they can.

    Args:
        groups: per-prompt columns by group.
        metrics: those to compute.
    """
    if not isinstance(groups, Mapping) or not all(isinstance(columns, Mapping) for columns in groups.values()):
        return "columns must be dicts of lists by group"
    for group, columns in groups.items():
        if not all(isinstance(values, list | tuple) for values in columns.values()):
            return f"the group {group!r} must hold lists by name"
        ids = columns.get("id")
        if ids is None:
            return f"the group {group!r} has no column 'id'"
        short = [name for name, values in columns.items() if len(values) != len(ids)]
        if short:
            return f"the column {short[0]!r} of {group!r} has {len(columns[short[0]]):,} values for {len(ids):,} items"
    if not any(columns["id"] for columns in groups.values()):
        return "there are no items"
    if not isinstance(metrics, list) or not metrics or not all(isinstance(m, Metric) for m in metrics):
        return "metrics must be a list of at least one harness.score.metrics.metric()"
    from harness.score.estimators import ESTIMATORS

    for estimator in (m.estimator for m in metrics):
        if estimator.kind not in ESTIMATORS:
            return f"a metric is of the kind {estimator.kind!r}: write one of {', '.join(sorted(ESTIMATORS))}"
        if estimator.group not in groups:
            return f"a metric is of the group {estimator.group!r}, which is not there"
        if estimator.column and estimator.column not in groups[estimator.group]:
            return f"a metric is of the column {estimator.column!r}, which the group {estimator.group!r} lacks"
    return ""


def checked_columns(
    groups: Mapping[str, Columns], metrics: Sequence[Metric], ranges: Mapping[str, Range] | None = None
) -> Checked:
    """Pass every column that a metric estimates from, and every column with a range, through the gate.

    Args:
        groups: per-prompt columns by group. A value may be a list of values.
        metrics: name the columns that are averaged.
        ranges: by column, the least and the greatest value.
    """
    ranges = ranges or {}
    averaged = {(m.estimator.group, m.estimator.column) for m in metrics if m.estimator.column}
    clean: dict[str, Columns] = {}
    reasons: dict[tuple[str, str], Counter[str]] = {}
    for group, columns in groups.items():
        clean[group] = dict(columns)
        for name, values in columns.items():
            if (group, name) in averaged or name in ranges:
                counter = reasons.setdefault((group, name), Counter())
                clean[group][name] = [_clean(value, ranges.get(name), counter) for value in values]
    invalid = {m.name: dict(sorted(reasons.get((m.estimator.group, m.estimator.column), {}).items())) for m in metrics}
    return Checked(clean, {name: counts for name, counts in invalid.items() if counts})


def _clean(value: Any, limits: Range | None, counter: Counter[str]) -> Any:
    if isinstance(value, list) and not isinstance(value, Invalid):
        return [_clean(element, limits, counter) for element in value]
    checked = value_or_reason(value, limits)
    if isinstance(checked, Invalid):
        counter[checked.reason] += 1
        return None
    return checked
