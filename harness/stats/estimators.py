"""Estimators: a value from per-prompt columns, under any weights of the prompts.

Each takes columns of length n and resampling weights of shape (R, n) (counts of a bootstrap draw; a row of ones is the
data itself) and returns R values. Everything that is estimated from the data is estimated again in each resample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = Mapping[str, Sequence[Any]]


def column(columns: Columns, name: str) -> Array:
    """A column as floats; missing values (None) are NaN."""
    return np.array([np.nan if v is None else float(v) for v in columns[name]], dtype=np.float64)


def mean(columns: Columns, name: str, weights: Array) -> Array:
    """Weighted mean of the valid rows of a column."""
    values = column(columns, name)
    valid = ~np.isnan(values)
    total = weights[:, valid].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(weights[:, valid] @ values[valid] / total)


def percent(columns: Columns, name: str, weights: Array) -> Array:
    """100 times the mean."""
    return 100 * mean(columns, name, weights)


def weighted_mean(columns: Columns, name: str, weights: Array) -> Array:
    """Mean over the set that the rows were drawn from by stratum: column ``weight`` holds how many items of it each
    stands for. Prompts are resampled over all strata at once, so its intervals err on the wide side."""
    return mean(columns, name, weights * column(columns, "weight"))


def weighted_percent(columns: Columns, name: str, weights: Array) -> Array:
    """100 times that."""
    return 100 * weighted_mean(columns, name, weights)


def perplexity(columns: Columns, name: str, weights: Array) -> Array:
    """exp of the token-weighted mean negative log-likelihood: columns ``name`` (nats, summed) and ``tokens``."""
    return np.asarray(np.exp((weights @ column(columns, name)) / (weights @ column(columns, "tokens"))))


def pooled_mean(columns: Columns, name: str, weights: Array) -> Array:
    """Mean over all valid values of a column of lists (a question's turns, say): prompts are drawn, values pooled."""
    rows = columns[name]
    sums = np.array([sum(v for v in row if v is not None) for row in rows], dtype=np.float64)
    counts = np.array([sum(v is not None for v in row) for row in rows], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ sums) / (weights @ counts))


def pooled_percent(columns: Columns, name: str, weights: Array) -> Array:
    """100 times that."""
    return 100 * pooled_mean(columns, name, weights)


def length_controlled_2(columns: Columns, name: str, weights: Array) -> Array:
    """AlpacaEval 2's length-controlled win rate (percent) with difficulty and anchors (:mod:`.length_control`).

    Columns: ``name`` (preference in [0, 1], None where the judge gave none), ``length``, ``baseline_length``
    (characters), ``difficulty``, and ``anchors``: for each prompt its anchor rows, pairs of (tanh of the standardised
    length difference, preference). Anchors are constants: they are not resampled.
    """
    from harness.stats.length_control import Anchors, controlled, fit

    y = column(columns, name)
    valid = ~np.isnan(y)
    delta = (column(columns, "baseline_length") - column(columns, "length"))[valid]
    hard = column(columns, "difficulty")
    rows = [(x, d, p) for d, pairs in zip(hard, columns["anchors"], strict=True) for x, p in pairs]
    anchors = Anchors(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)
    used = weights[:, valid]
    return controlled(fit(y[valid], delta, hard[valid], used, anchors), hard[valid], used)


def logistic(features: Array, y: Array, weights: Array, ridge: float, steps: int = 50) -> Array:
    """Weighted logistic regression with soft labels and no intercept, one fit for each row of weights, by Newton.

    Args:
        features: (R, n, k) or (n, k). y: (n,) in [0, 1]. weights: (R, n). ridge: L2 penalty, as 1/C of scikit-learn.

    Returns:
        coefficients (R, k).
    """
    x = np.broadcast_to(features, (len(weights), *features.shape[-2:]))
    beta = np.zeros((len(weights), x.shape[-1]))
    eye = np.eye(x.shape[-1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(np.einsum("rnk,rk->rn", x, beta), -30, 30)))
        gradient = np.einsum("rnk,rn->rk", x, weights * (y - p)) - ridge * beta
        hessian = np.einsum("rnk,rn,rnl->rkl", x, weights * p * (1 - p), x) + (ridge + 1e-9) * eye
        move = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        beta += np.clip(move, -2, 2)
        if np.abs(move).max() < 1e-10:
            break
    return beta


def length_controlled(columns: Columns, name: str, weights: Array) -> Array:
    """Win rate (percent) at equal length: logit p = w1 * tanh(delta / sd(delta)) + w3, with w1 set to 0.

    The form of AlpacaEval 2 (spec/evals 1.3) without instruction difficulty and without the anchoring rows, which exist
    for the official 805 instructions only. Columns: ``name`` (preference in [0, 1]), ``length`` and
    ``baseline_length`` (characters). sd is taken anew in each resample.
    """
    y = column(columns, name)
    delta = column(columns, "baseline_length") - column(columns, "length")
    total = weights.sum(1, keepdims=True)
    centre = weights @ delta / total[:, 0]
    spread = np.sqrt((weights * (delta - centre[:, None]) ** 2).sum(1) / np.maximum(total[:, 0] - 1, 1))
    x1 = np.tanh(delta / np.where(spread > 0, spread, 1)[:, None])
    features = np.stack([x1, np.ones_like(x1)], -1)
    return np.asarray(100 / (1 + np.exp(-logistic(features, y, weights, ridge=1e-6)[:, 1])))


STYLE = ("tokens", "headers", "lists", "bolds")


def style_controlled(columns: Columns, name: str, weights: Array) -> Array:
    """Win rate (percent) at equal style: Bradley-Terry against one baseline with four style features.

    The form of Arena-Hard v0.1 (spec/evals 2.2) for a pool of this model alone: d = (a - b) / (a + b + 1) for token
    length, headers, lists and bold; logistic regression with L2, C = 1. Each d is scaled by its standard deviation over
    the battles of the resample but not centred: the official mean is over a pool of models, and centring on the model's
    own mean would control nothing.
    Columns: ``name`` (win in [0, 1]), and ``<feature>`` / ``baseline_<feature>``.
    """
    y = column(columns, name)
    raw = []
    for feature in STYLE:
        ours, theirs = column(columns, feature), column(columns, f"baseline_{feature}")
        raw.append((ours - theirs) / (ours + theirs + 1))
    d = np.stack(raw, -1)
    share = weights / weights.sum(1, keepdims=True)
    centre = share @ d
    spread = np.sqrt(np.einsum("rn,rnk->rk", share, (d - centre[:, None]) ** 2))
    scaled = d / np.where(spread > 1e-9, spread, 1)[:, None]
    strength = np.full((*scaled.shape[:2], 1), np.log(10))
    beta = logistic(np.concatenate([strength, scaled], -1), y, 2 * weights, ridge=1.0)
    return np.asarray(100 / (1 + np.exp(-np.log(10) * beta[:, 0])))


ESTIMATORS: dict[str, Callable[[Columns, str, Array], Array]] = {
    "mean": mean,
    "percent": percent,
    "weighted_mean": weighted_mean,
    "weighted_percent": weighted_percent,
    "perplexity": perplexity,
    "pooled_mean": pooled_mean,
    "pooled_percent": pooled_percent,
    "length_controlled": length_controlled,
    "length_controlled_2": length_controlled_2,
    "style_controlled": style_controlled,
}
