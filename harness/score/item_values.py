"""Per-item values of any estimator, for tests that need one number an item."""

from __future__ import annotations

import numpy as np

from harness.score.bootstrap import SCALES
from harness.score.columns import Array, PromptColumns, float_column
from harness.score.estimators import ESTIMATORS

_CHUNK = 256


def item_values(kind: str, columns: PromptColumns, column: str) -> Array:
    """One value an item, of which the mean is the estimate; NaN where the item has none. Shape (n,).

    Of a plain mean these are the column's own values. Of an estimator that is fitted to all items (length control, a
    ratio of sums) they are jackknife pseudo-values, n * estimate - (n - 1) * estimate without the item. Their mean is
    the estimate up to its bias of order 1 / n, and their spread gives its standard error (Efron and Stein 1981).

    Args:
        kind: a name in :data:`harness.score.estimators.ESTIMATORS`.
        columns: per-prompt columns, ``id`` among them.
        column: the one that the estimator uses; "" if it uses none.
    """
    if kind in SCALES:
        return SCALES[kind] * float_column(columns, column)
    count, estimator = len(columns["id"]), ESTIMATORS[kind]
    valid = has_value(columns, column)
    places, used = np.flatnonzero(valid), int(valid.sum())
    values = np.full(count, np.nan)
    if used < 2:
        return values
    whole = float(estimator(columns, column, np.ones((1, count)))[0])
    for first in range(0, used, _CHUNK):
        left_out = places[first : first + _CHUNK]
        weights = np.ones((len(left_out), count))
        weights[np.arange(len(left_out)), left_out] = 0
        values[left_out] = used * whole - (used - 1) * estimator(columns, column, weights)
    return values


def has_value(columns: PromptColumns, column: str) -> np.ndarray:
    """Which items have a value: neither None nor NaN; of a list, any."""
    if not column:
        return np.ones(len(columns["id"]), dtype=bool)
    rows = [v if isinstance(v, list) else [v] for v in columns[column]]
    return np.array([any(v is not None and v == v for v in row) for row in rows], dtype=bool)
