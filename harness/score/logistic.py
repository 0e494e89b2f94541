"""Logistic regression by Newton's method, many fits at once: one for each row of resampling weights.

:func:`fit_logistic` and :func:`fit_scaled` are the general fits. :mod:`.length_control` and :mod:`.bradley_terry` hand
derivatives to :func:`newton` that use the structure of their designs. For length control (805 prompts, 1,610 anchors)
that gives the same coefficients to 2e-16 in a sixth of the time.

A pass over an array of resamples costs more in fresh memory than in arithmetic. So the general fits keep their arrays
from step to step, take their first steps in single precision, and leave out resamples that have converged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from harness.score.columns import Array

LAPACK_UP_TO = 16
"""So many matrices are solved one by one: elimination over all at once needs more calls than there are matrices."""


class Derivatives(NamedTuple):
    """Derivatives of R log-likelihoods with k coefficients each.

    ``gradient``: (R, k). ``hessian``: of the negative log-likelihood, (R, k, k); or its diagonal, (R, k), where the
    coefficients do not interact.
    """

    gradient: Array
    hessian: Array


def sigmoid(z: Array, out: Array | None = None) -> Array:
    """1 / (1 + exp(-z)), with z cut to [-30, 30] so that nothing overflows.

    Args:
        z: of any shape.
        out: where to put the result; may be ``z`` itself.
    """
    p: Array = np.clip(z, -30, 30, out=out)
    np.negative(p, out=p)
    np.exp(p, out=p)
    p += 1
    return np.reciprocal(p, out=p)


def solve(matrices: Array, sides: Array) -> Array:
    """x of A x = b for R small positive definite matrices at once, by elimination (which needs no pivots there).

    A call of LAPACK for each of 1,000 matrices of 5 x 5 takes several times as long.

    Args:
        matrices: A, (R, k, k).
        sides: b, (R, k).
    """
    a, b = np.ascontiguousarray(matrices.transpose(1, 2, 0)), np.ascontiguousarray(sides.T)
    return np.ascontiguousarray(_eliminate(a, b).T)


def _eliminate(a: Array, b: Array) -> Array:
    """x of A x = b, in the place of ``b``, (k, R). Of ``a``, (k, k, R), only the upper triangles are read, and they are
    overwritten."""
    k = len(b)
    for i in range(k - 1):
        factors = a[i, i + 1 :] / a[i, i]
        b[i + 1 :] -= factors * b[i]
        for j in range(i + 1, k):
            a[j, j:] -= factors[j - i - 1] * a[i, j:]
    for i in reversed(range(k)):
        b[i] = (b[i] - (a[i, i + 1 :] * b[i + 1 :]).sum(0)) / a[i, i]
    return b


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
        move = gradient / hessian if hessian.ndim == 2 else solve(hessian, gradient)
        beta += np.clip(move, -largest_step, largest_step)
        if np.abs(move).max() < tolerance:
            break
    return beta


class _Slopes(NamedTuple):
    """Derivatives with the coefficients first, in arrays that the next call overwrites: ``gradient`` (k, R), and the
    upper triangles of ``hessian`` (k, k, R)."""

    gradient: Array
    hessian: Array


_Rows = slice | NDArray[np.intp]
_Problem = Callable[[_Rows, DTypeLike], Callable[[Array], _Slopes]]
"""From some of the fits and a precision to their derivatives, as a function of coefficients (k, R)."""


class _Climbed(NamedTuple):
    """Coefficients (k, R), and which fits have converged (R,)."""

    beta: Array
    converged: NDArray[np.bool_]


def _climb(problem: _Problem, start: Array, tolerance: float, steps: int, dtype: DTypeLike) -> _Climbed:
    """Newton's method for all fits at once, no coefficient moving by more than 2 in a step. Fits that have converged
    are left out once they are the larger part.

    Args:
        problem: the fits.
        start: coefficients to start from, (k, R).
        tolerance: a fit has converged once none of its coefficients moves by more.
        steps: the most steps to take.
        dtype: of the arithmetic.
    """
    beta, converged = start.astype(dtype), np.zeros(start.shape[1], dtype=bool)
    rows: _Rows = slice(None)
    current, derivatives = beta.copy(), problem(rows, dtype)
    for _ in range(steps):
        gradient, hessian = derivatives(current)
        move = _solve_few(hessian, gradient) if gradient.shape[1] <= LAPACK_UP_TO else _eliminate(hessian, gradient)
        current += np.clip(move, -2, 2)
        arrived = np.abs(move).max(0) < tolerance
        if 2 * np.count_nonzero(arrived) <= len(arrived):
            continue
        beta[:, rows], converged[rows] = current, arrived
        rows = np.flatnonzero(~converged)
        if not len(rows):
            return _Climbed(beta, converged)
        current, derivatives = beta[:, rows], problem(rows, dtype)
    beta[:, rows] = current
    return _Climbed(beta, converged)


def _solve_few(a: Array, b: Array) -> Array:
    """As :func:`_eliminate`, for few matrices."""
    full = np.triu(a.transpose(2, 0, 1))
    full += np.triu(full, 1).transpose(0, 2, 1)
    return np.asarray(np.linalg.solve(full, b.T[..., None])[..., 0].T, b.dtype)


def _fit(problem: _Problem, typical: _Problem, count: int, coefficients: int) -> Array:
    """Fits from the fit of typical weights on: roughly in single precision, then in double precision.

    Args:
        problem: the fits.
        typical: one fit.
        count: R, how many fits ``problem`` has.
        coefficients: k.

    Returns:
        shape (R, k).
    """
    with np.errstate(over="ignore"):  # exp of a large logit is infinite, which is right
        start = _climb(typical, np.zeros((coefficients, 1)), 1e-4, 50, np.float64).beta
        start = np.repeat(start, count, 1)
        if count > LAPACK_UP_TO:
            with np.errstate(all="ignore"):  # a fit that single precision cannot hold starts anew below
                rough, converged = _climb(problem, start, 1e-3, 6, np.float32)
            start[:, converged] = rough[:, converged]
        return np.ascontiguousarray(_climb(problem, start, 1e-7, 50, np.float64).beta.T)


def fit_logistic(features: Array | Sequence[Array], y: Array, weights: Array, ridge: float) -> Array:
    """Weighted logistic regression with soft labels and no intercept, one fit for each row of weights.

    Args:
        features: (R, n, k), or (n, k) if the same in each resample; or each feature, (R, n) or (n,).
        y: labels in [0, 1], (n,).
        weights: counts of a bootstrap draw, (R, n).
        ridge: L2 penalty, as 1/C of scikit-learn.

    Returns:
        coefficients (R, k).
    """
    if isinstance(features, np.ndarray):
        features = [np.ascontiguousarray(features[..., j]) for j in range(features.shape[-1])]
    alike = [column if column.ndim == 1 else column.mean(0, keepdims=True) for column in features]
    typical = np.maximum(weights.mean(0, keepdims=True), 1e-9)
    one = _by_features(alike, y, typical, ridge)
    return _fit(_by_features(features, y, weights, ridge), one, len(weights), len(features))


class _Weighted(NamedTuple):
    """``counts`` of a draw and counts times labels, (R, n)."""

    counts: Array
    labels: Array

    def residual(self, logits: Array, part: Array) -> Array:
        """counts * (y - p), in the place of ``part``; counts * p * (1 - p) is left in the place of ``logits``.

        Args:
            logits: minus the logits of p, (R, n).
            part: any array like it.
        """
        np.exp(logits, out=logits)
        np.add(logits, 1, out=logits)
        np.reciprocal(logits, out=logits)
        np.multiply(self.counts, logits, out=part)
        np.subtract(1, logits, out=logits)
        np.multiply(logits, part, out=logits)
        return np.subtract(self.labels, part, out=part)


def _weighted(y: Array, weights: Array, dtype: DTypeLike) -> _Weighted:
    counts = np.asarray(weights, dtype)
    return _Weighted(counts, counts * y.astype(dtype))


def _by_features(x: Sequence[Array], y: Array, weights: Array, ridge: float) -> _Problem:
    """The fits of :func:`fit_logistic`; a feature is (R, n), or (n,) if it is the same in each resample."""

    ones = [column.ndim == 1 and bool((column == 1).all()) for column in x]

    def of(rows: _Rows, dtype: DTypeLike) -> Callable[[Array], _Slopes]:
        columns = [np.asarray(column if column.ndim == 1 else column[rows], dtype) for column in x]
        weighted = _weighted(y, weights[rows], dtype)
        spread, part = np.empty_like(weighted.counts), np.empty_like(weighted.counts)
        hessian = np.empty((len(x), len(x), len(spread)), dtype)

        def derivatives(beta: Array) -> _Slopes:
            spread[:] = 0
            for minus, column, is_one in zip(-beta[:, :, None], columns, ones, strict=True):
                np.add(spread, minus if is_one else np.multiply(minus, column, out=part), out=spread)
            residual = weighted.residual(spread, part)
            gradient = np.stack([_dot(residual, column) for column in columns]) - ridge * beta
            for j, column in enumerate(columns):
                of_column = spread if ones[j] else np.multiply(spread, column, out=part)
                for i in range(j + 1):
                    hessian[i, j] = _dot(of_column, columns[i])
                hessian[j, j] += ridge + 1e-9
            return _Slopes(gradient, hessian)

        return derivatives

    return of


def _dot(rows: Array, column: Array) -> Array:
    """Inner product of each row, (R, n), with a column, (R, n) or (n,)."""
    return np.asarray(rows @ column if column.ndim == 1 else np.vecdot(rows, column))


def fit_scaled(design: Array, scale: Array, y: Array, weights: Array, ridge: float) -> Array:
    """:func:`fit_logistic` where the features of each resample are those of one design, each in a scale of its own:
    then all sums over rows are products of matrices.

    Args:
        design: (n, k).
        scale: what the features are multiplied with in each resample, (R, k).
        y: labels in [0, 1], (n,).
        weights: counts of a bootstrap draw, (R, n).
        ridge: L2 penalty, as 1/C of scikit-learn.

    Returns:
        coefficients (R, k).
    """
    typical = np.maximum(weights.mean(0, keepdims=True), 1e-9)
    one = _by_design(design, scale.mean(0, keepdims=True), y, typical, ridge)
    return _fit(_by_design(design, scale, y, weights, ridge), one, len(weights), design.shape[1])


def _by_design(design: Array, scale: Array, y: Array, weights: Array, ridge: float) -> _Problem:
    """The fits of :func:`fit_scaled`."""
    upper = np.triu_indices(design.shape[1])
    pairs = design[:, upper[0]] * design[:, upper[1]]

    def of(rows: _Rows, dtype: DTypeLike) -> Callable[[Array], _Slopes]:
        shared, squares = design.T.astype(dtype), pairs.T.astype(dtype)
        weighted, scales = _weighted(y, weights[rows], dtype), np.ascontiguousarray(scale[rows].T, dtype)
        products = scales[upper[0]] * scales[upper[1]]
        spread, part = np.empty_like(weighted.counts), np.empty_like(weighted.counts)
        hessian = np.empty((len(scales), *scales.shape), dtype)

        def derivatives(beta: Array) -> _Slopes:
            np.matmul((-beta * scales).T, shared, out=spread)
            gradient = shared @ weighted.residual(spread, part).T * scales - ridge * beta
            hessian[upper] = squares @ spread.T * products
            hessian[range(len(scales)), range(len(scales))] += ridge + 1e-9
            return _Slopes(gradient, hessian)

        return derivatives

    return of
