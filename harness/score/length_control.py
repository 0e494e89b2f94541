"""Length-controlled win rate of AlpacaEval 2 (arXiv 2404.04475; docs/score.md): a logistic model of preferences.

logit p_i = w1 * tanh(delta_i / sd(delta)) + w2 * gamma_i + w3 * x3_i, where delta is the baseline's length minus the
model's, gamma the instruction's fixed difficulty, and x3 is 1 on the model's rows. Anchor rows (the baseline asked for
short and for long answers, against itself, x3 = 0) tie w1 to what length alone is worth. The length-controlled win rate
is the mean of sigmoid(w2 * gamma + w3): no intercept, the length term set to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.score.columns import Array
from harness.score.logistic import Derivatives, newton, sigmoid

ANCHOR_WEIGHT = 0.1  # lambda / 2 with lambda = 0.2: two anchor rows an instruction

C_GRID = np.logspace(-4, 4, 10)
SEED = 123

CHUNK = 50


@dataclass(frozen=True)
class Anchors:
    """Rows of the anchored baseline: ``length`` = tanh of the standardised length difference, ``difficulty``, and ``y``
    in [0, 1], each of shape (m,)."""

    length: Array
    difficulty: Array
    y: Array


NO_ANCHORS = Anchors(np.zeros(0), np.zeros(0), np.zeros(0))


def weighted_sd(delta: Array, weights: Array) -> Array:
    """sd (ddof 1) of ``delta`` (n,) under integer weights (R, n), shape (R,); 1 where it is 0."""
    total = weights.sum(1)
    centre = weights @ delta / total
    variance = np.maximum(weights @ delta**2 / total - centre**2, 0) * total / np.maximum(total - 1, 1)
    sd = np.sqrt(variance)
    return np.where(sd > 1e-9, sd, 1.0)


def length_controlled_rate(coefficients: Array, difficulty: Array, weights: Array) -> Array:
    """Length-controlled win rate in percent.

    Args:
        coefficients: of :func:`fit_length_control`, (R, 3).
        difficulty: gamma of each instruction, (n,).
        weights: counts of a bootstrap draw, (R, n).

    Returns:
        shape (R,).
    """
    p = sigmoid(coefficients[:, 1:2] * difficulty + coefficients[:, 2:3])
    return np.asarray(100 * (weights * p).sum(1) / weights.sum(1))


def fit_length_control(
    y: Array, delta: Array, difficulty: Array, weights: Array, anchors: Anchors = NO_ANCHORS, ridge: float = 1e-6
) -> Array:
    """Maximum likelihood without the official penalty, one fit for each row of weights, sd(delta) included.

    Args:
        y: preferences in [0, 1], (n,).
        delta: the baseline's minus the model's length in characters, (n,).
        difficulty: gamma of each instruction, (n,).
        weights: counts of a bootstrap draw, (R, n).
        anchors: rows of the anchored baseline; they are not resampled.
        ridge: keeps a separable resample finite.

    Returns:
        coefficients (w1, w2, w3), shape (R, 3).
    """
    start = _fit(y, delta, difficulty, np.ones((1, len(y))), anchors, ridge, np.zeros((1, 3)))
    chunks = [weights[i : i + CHUNK] for i in range(0, len(weights), CHUNK)]
    return np.concatenate([_fit(y, delta, difficulty, chunk, anchors, ridge, start) for chunk in chunks])


def _fit(
    y: Array, delta: Array, difficulty: Array, weights: Array, anchors: Anchors, ridge: float, start: Array
) -> Array:
    """Newton's method from ``start`` (1, 3). Only the length term differs between resamples, because its sd does: the
    sums over difficulty, x3 and the anchors are matrix products."""
    x = np.tanh(delta / weighted_sd(delta, weights)[:, None])
    fixed = np.stack([difficulty, np.ones_like(difficulty), difficulty**2], 1)
    a, g = anchors.length, anchors.difficulty
    anchor_first = np.stack([a, g], 1)
    anchor_second = np.stack([a * a, a * g, g * g], 1)

    def derivatives(beta: Array) -> Derivatives:
        p = sigmoid(beta[:, :1] * x + beta[:, 1:2] * difficulty + beta[:, 2:])
        e, s = weights * (y - p), weights * p * (1 - p)
        gradient = np.stack([(e * x).sum(1), e @ difficulty, e.sum(1)], 1)
        sx = s * x
        cross, rest = sx @ fixed[:, :2], s @ fixed
        second = (sx * x).sum(1)
        if len(a):
            q = sigmoid(beta[:, :2] @ anchor_first.T)
            gradient[:, :2] += ANCHOR_WEIGHT * (anchors.y - q) @ anchor_first
            extra = ANCHOR_WEIGHT * (q * (1 - q)) @ anchor_second
            second, cross[:, 0], rest[:, 2] = second + extra[:, 0], cross[:, 0] + extra[:, 1], rest[:, 2] + extra[:, 2]
        hessian = np.empty((len(weights), 3, 3))
        hessian[:, 0, 0], hessian[:, 0, 1], hessian[:, 0, 2] = second, cross[:, 0], cross[:, 1]
        hessian[:, 1, 0], hessian[:, 1, 1], hessian[:, 1, 2] = cross[:, 0], rest[:, 2], rest[:, 0]
        hessian[:, 2, 0], hessian[:, 2, 1], hessian[:, 2, 2] = cross[:, 1], rest[:, 0], rest[:, 1]
        return Derivatives(gradient - ridge * beta, hessian + (ridge + 1e-9) * np.eye(3))

    return newton(derivatives, np.repeat(start, len(weights), 0))


class OfficialFit(NamedTuple):
    """``coefficients`` (w1, w2, w3), shape (3,), and ``c``, the inverse of the L1 penalty."""

    coefficients: Array
    c: float


def official_fit(y: Array, delta: Array, difficulty: Array, anchors: Anchors, c: float | None = None) -> OfficialFit:
    """The official fit: L1-penalised logistic regression by liblinear (scikit-learn).

    Args:
        y: preferences in [0, 1], (n,).
        delta: the baseline's minus the model's length in characters, (n,).
        difficulty: gamma of each instruction, (n,).
        anchors: rows of the anchored baseline.
        c: inverse of the penalty; chosen by cross-validation if it is None.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    x = np.stack([np.tanh(delta / weighted_sd(delta, np.ones((1, len(y))))[0]), difficulty, np.ones_like(y)], 1)
    # anchors first, as in alpaca_eval: folds go by place
    rows = np.concatenate([np.stack([anchors.length, anchors.difficulty, np.zeros_like(anchors.y)], 1), x])
    target = np.concatenate([anchors.y, y])
    weight = np.concatenate([np.full_like(anchors.y, ANCHOR_WEIGHT), np.ones_like(y)])
    if c is None:
        c = _cross_validated(rows, target, weight)
    return OfficialFit(_liblinear(rows, target, weight, c, SEED), c)


def _doubled(x: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Soft labels as two rows each: label 1 with weight y, label 0 with weight 1 - y."""
    return np.concatenate([x, x]), np.repeat([1, 0], len(y)), np.concatenate([weight * y, weight * (1 - y)])


def _liblinear(x: Array, y: Array, weight: Array, c: float, random_state: int | np.random.RandomState) -> Array:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=c, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=random_state, tol=1e-4, max_iter=100
    )
    rows, labels, weights = _doubled(x, y, weight)
    return np.asarray(model.fit(rows, labels, sample_weight=weights).coef_[0])


def _cross_validated(x: Array, y: Array, weight: Array) -> float:
    """C of logspace(-4, 4, 10) with the least held-out log loss, chosen as scikit-learn's LogisticRegressionCV does:
    both copies of a row lie in the same fold, each fold has one random stream for all its fits from the least C on, and
    the mean loss of each fold counts alike. liblinear stops early, so its random order moves the loss: where the losses
    hardly differ, another stream chooses another C."""
    from sklearn.model_selection import GroupKFold

    losses = np.zeros(len(C_GRID))
    for train, held in GroupKFold(5).split(x, groups=np.arange(len(x))):
        stream = np.random.RandomState(SEED)
        for i, c in enumerate(C_GRID):
            coefficients = _liblinear(x[train], y[train], weight[train], c, stream)
            p = np.clip(sigmoid(x[held] @ coefficients), 1e-15, 1 - 1e-15)
            losses[i] -= np.mean(weight[held] * (y[held] * np.log(p) + (1 - y[held]) * np.log(1 - p)))
    return float(C_GRID[int(np.argmin(losses))])
