"""Estimators: a value from per-prompt columns, under any weights of the prompts.

Every estimator has the same arguments:

    columns: per-prompt columns of length n.
    name: the column that it estimates from; its docstring lists what else it reads.
    weights: resampling weights (R, n), counts of a bootstrap draw; a row of ones is the data itself.

and returns R values. Everything that is estimated from the data is estimated again in each resample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.score import win_rate_estimators as win_rates
from harness.score.columns import Array, PromptColumns, float_column


def mean(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Weighted mean of the valid rows of a column."""
    values = float_column(columns, name)
    valid = ~np.isnan(values)
    inside = weights if valid.all() else weights[:, valid]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(inside @ values[valid] / inside.sum(1))


def percent(columns: PromptColumns, name: str, weights: Array) -> Array:
    """100 times the :func:`mean`."""
    return 100 * mean(columns, name, weights)


def weighted_mean(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Mean over a full set of which the rows are a stratified sample.

    Column ``weight`` holds how many items of the full set a row stands for. Prompts are resampled over all strata at
    once, so the intervals err on the wide side.
    """
    return mean(columns, name, weights * float_column(columns, "weight"))


def weighted_percent(columns: PromptColumns, name: str, weights: Array) -> Array:
    """100 times the :func:`weighted_mean`."""
    return 100 * weighted_mean(columns, name, weights)


def perplexity(columns: PromptColumns, name: str, weights: Array) -> Array:
    """exp of the token-weighted mean negative log-likelihood of the valid rows: columns ``name`` (nats, summed) and
    ``tokens``."""
    nll, tokens = float_column(columns, name), float_column(columns, "tokens")
    valid = ~(np.isnan(nll) | np.isnan(tokens))
    inside = weights if valid.all() else weights[:, valid]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.exp((inside @ nll[valid]) / (inside @ tokens[valid])))


def distinct(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Distinct-n (arXiv 1510.03055): percent of all n-grams of all answers that are distinct, by their linear part.

    Columns, for each answer: ``name``, its n-grams that no earlier answer has; ``<name>_only``, those that no other
    answer has; ``<name>_total``, how many it has, repeats included.

    An answer drawn twice brings nothing new, so distinct n-grams counted in a resample are too few on average, and
    their percentile interval would miss the value. Here a resample gains or loses what an answer alone brings, for each
    time that it is drawn more or less than once: right on average, and for one answer taken out exact. The variance is
    that of the delete-one jackknife, which is not too small on average (Efron and Stein 1981). No more than 100.
    """
    new, only, total = (float_column(columns, f"{name}{part}") for part in ("", "_only", "_total"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.minimum(100 * (new.sum() + (weights - 1) @ only) / (weights @ total), 100))


def sections(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Percent: the mean over sections of the weighted mean in each (RewardBench's score; of one section, its own).

    Columns: ``name`` (None is not valid), ``section`` and ``section_weight``. Rows are drawn over all sections at once.
    """
    values, share = float_column(columns, name), float_column(columns, "section_weight")
    label = np.array(columns["section"])
    means = []
    for section in dict.fromkeys(columns["section"]):
        inside = (label == section) & ~np.isnan(values)
        used = weights[:, inside] * share[inside]
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(used @ values[inside] / used.sum(1))
    return np.asarray(100 * np.mean(means, axis=0))


def pooled_mean(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Mean over all valid values of a column of lists (a question's turns, say): prompts are drawn, values pooled."""
    rows = [row or [] for row in columns[name]]
    sums = np.array([sum(v for v in row if v is not None) for row in rows], dtype=np.float64)
    counts = np.array([sum(v is not None for v in row) for row in rows], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ sums) / (weights @ counts))


def pooled_percent(columns: PromptColumns, name: str, weights: Array) -> Array:
    """100 times the :func:`pooled_mean`."""
    return 100 * pooled_mean(columns, name, weights)


ESTIMATORS: dict[str, Callable[[PromptColumns, str, Array], Array]] = {
    "mean": mean,
    "percent": percent,
    "weighted_mean": weighted_mean,
    "weighted_percent": weighted_percent,
    "perplexity": perplexity,
    "distinct": distinct,
    "sections": sections,
    "pooled_mean": pooled_mean,
    "pooled_percent": pooled_percent,
    "length_controlled": win_rates.length_controlled,
    "length_controlled_2": win_rates.length_controlled_2,
    "length_coefficient": win_rates.length_coefficient,
    "style_controlled": win_rates.style_controlled,
    "game_percent": win_rates.game_percent,
    "equal_style": win_rates.equal_style,
    "equal_style_v2": win_rates.equal_style_v2,
    "frozen_style": win_rates.frozen_style,
}

FITTED = frozenset(
    {
        "length_controlled",
        "length_controlled_2",
        "length_coefficient",
        "style_controlled",
        "equal_style",
        "equal_style_v2",
        "frozen_style",
    }
)
"""Estimators that fit a regression in each resample, which takes milliseconds; the others are sums."""
