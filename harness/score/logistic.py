"""Logistic regression by Newton's method, many fits at once: one for each row of resampling weights.

:func:`newton` is the iteration that all logistic fits of this folder share. :func:`fit_logistic` is the general fit;
:mod:`.length_control` and :mod:`.bradley_terry` hand in derivatives that use the structure of their designs. For
length control (805 prompts, 1,610 anchors) the general fit gives the same coefficients to 2e-16, but takes 0.93 s
instead of 0.14 s for 1,000 refits on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from harness.score.columns import Array


class Derivatives(NamedTuple):
    """Derivatives of R log-likelihoods with k coefficients each.

    ``gradient``: (R, k). ``hessian``: of the negative log-likelihood, (R, k, k); or its diagonal, (R, k), where the
    coefficients do not interact.
    """

    gradient: Array
    hessian: Array


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), with z cut to [-30, 30] so that nothing overflows."""
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -30, 30))))


def newton(
    derivatives: Callable[[Array], Derivatives],
    start: Array,
    *,
    largest_step: float = 2.0,
    tolerance: float = 1e-9,
    steps: int = 60,
) -> Array:
    """Maximise R likelihoods at once.

    Args:
        derivatives: gradient and Hessian at coefficients of shape (R, k).
        start: coefficients to start from, (R, k).
        largest_step: no coefficient moves further than this in one step; keeps separable data from jumping away.
        tolerance: stop once no coefficient moves by more. Convergence is quadratic: what is left is the square of it.
        steps: the most steps to take.

    Returns:
        coefficients (R, k).
    """
    beta = start.copy()
    for _ in range(steps):
        gradient, hessian = derivatives(beta)
        diagonal = hessian.ndim == 2
        move = gradient / hessian if diagonal else np.linalg.solve(hessian, gradient[..., None])[..., 0]
        beta += np.clip(move, -largest_step, largest_step)
        if np.abs(move).max() < tolerance:
            break
    return beta


def fit_logistic(features: Array, y: Array, weights: Array, ridge: float) -> Array:
    """Weighted logistic regression with soft labels and no intercept, one fit for each row of weights.

    Args:
        features: (R, n, k), or (n, k) if the same in each resample.
        y: labels in [0, 1], (n,).
        weights: counts of a bootstrap draw, (R, n).
        ridge: L2 penalty, as 1/C of scikit-learn.

    Returns:
        coefficients (R, k).
    """
    x = np.broadcast_to(features, (len(weights), *features.shape[-2:]))
    eye = np.eye(x.shape[-1])

    def derivatives(beta: Array) -> Derivatives:
        p = sigmoid(np.einsum("rnk,rk->rn", x, beta))
        gradient = np.einsum("rnk,rn->rk", x, weights * (y - p)) - ridge * beta
        return Derivatives(gradient, np.einsum("rnk,rn,rnl->rkl", x, weights * p * (1 - p), x) + (ridge + 1e-9) * eye)

    return newton(derivatives, np.zeros((len(weights), x.shape[-1])), tolerance=1e-10, steps=50)
