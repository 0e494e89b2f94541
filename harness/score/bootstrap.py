"""Bootstrap over prompts: replicates, intervals over prompts and seeds, minimum detectable differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from harness.score.columns import Array, PromptColumns, float_column, prompts_with_value
from harness.score.estimators import ESTIMATORS, FITTED
from sail.noise import generator

RESAMPLES = 1000

POWER_FACTOR = 1.959964 + 0.841621  # two-sided 5% level, power 80%


def draws(count: int, resamples: int = RESAMPLES) -> Array:
    """Bootstrap counts of ``count`` prompts, shape (resamples, count), read-only. A pure function of its arguments, so
    that all models are resampled with one joint draw. Those of small sets are kept; of large ones only the last few."""
    return _weights(count, resamples).draws


def data_and_draws(count: int) -> Array:
    """A row of ones, which is the data itself, above the :func:`draws`: shape (1 + RESAMPLES, count), read-only."""
    return _weights(count, RESAMPLES).all


class _Weights(NamedTuple):
    """``all``: a row of ones and the ``draws``, which are a view of it."""

    all: Array
    draws: Array


def _weights(count: int, resamples: int) -> _Weights:
    return _small_draws(count, resamples) if count <= 1000 else _large_draws(count, resamples)


def _draw(count: int, resamples: int) -> _Weights:
    rng = generator(("bootstrap", count, resamples))
    weights = np.ones((1 + resamples, count))
    weights[1:] = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    weights.setflags(write=False)
    return _Weights(weights, weights[1:])


_small_draws = lru_cache(maxsize=16)(_draw)
_large_draws = lru_cache(maxsize=4)(_draw)


class Estimate(NamedTuple):
    """``value`` on the data itself, and ``samples``: bootstrap replicates of it, shape (RESAMPLES,)."""

    value: float
    samples: Array


def replicates(kind: str, columns: PromptColumns, column: str) -> Estimate:
    """An estimate with its bootstrap replicates; NaN where fewer than two of several prompts have a value, because one
    prompt gives no interval.

    Args:
        kind: a name in :data:`harness.score.estimators.ESTIMATORS`.
        columns: per-prompt columns, ``id`` among them.
        column: the one that the estimator uses; "" if it uses none.
    """
    count = len(columns["id"])
    if prompts_with_value(columns, column) < min(2, max(count, 1)):
        return Estimate(float("nan"), np.full(RESAMPLES, np.nan))
    estimator = ESTIMATORS[kind]
    if kind in FITTED:  # one call: each call begins with a fit to the data
        estimates = estimator(columns, column, data_and_draws(count))
        return Estimate(float(estimates[0]), estimates[1:])
    value = float(estimator(columns, column, np.ones((1, count)))[0])
    return Estimate(value, estimator(columns, column, draws(count)))


SCALES = {"mean": 1.0, "percent": 100.0}
"""Estimators that are a mean of a column, by what they multiply it with."""


def replicates_of_runs(kind: str, runs: Sequence[PromptColumns], column: str) -> list[Estimate]:
    """:func:`replicates` of several runs on the same prompts, for means in one product of matrices.

    Args:
        kind: a name in :data:`harness.score.estimators.ESTIMATORS`.
        runs: per-prompt columns of each run, all with the same ``id``.
        column: the one that the estimator uses; "" if it uses none.
    """
    if kind not in SCALES or not runs or not len(runs[0]["id"]):
        return [replicates(kind, columns, column) for columns in runs]
    values = np.stack([float_column(columns, column) for columns in runs])
    valid = ~np.isnan(values)
    weights = draws(values.shape[1])
    first = np.where(valid.any(1), values[np.arange(len(values)), valid.argmax(1)], np.nan)
    beyond = np.where(valid, values - first[:, None], 0)  # 0 for what is constant, so that it has exactly no spread
    counts = valid.astype(np.float64) @ weights.T if not valid.all() else np.float64(values.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = beyond @ weights.T
        samples /= counts
        samples += first[:, None]
        samples *= SCALES[kind]
        means = SCALES[kind] * (first + beyond.sum(1) / valid.sum(1))
    enough = valid.sum(1) >= min(2, max(values.shape[1], 1))
    nothing = Estimate(float("nan"), np.full(RESAMPLES, np.nan))
    return [Estimate(float(m), s) if usable else nothing for m, s, usable in zip(means, samples, enough, strict=True)]


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval, its standard error and the degrees of freedom of that error."""

    value: float
    low: float
    high: float
    error: float
    df: float = inf

    @property
    def has_value(self) -> bool:
        """Whether the value is a number at all."""
        return isfinite(self.value)

    @property
    def mdd(self) -> float:
        """Minimum detectable difference (two-sided 5% level, power 80%), if this is the interval of a difference."""
        if self.df == inf:
            return POWER_FACTOR * self.error
        return (student_t(0.975, self.df) + student_t(0.8, self.df)) * self.error

    @property
    def p(self) -> float:
        """Two-sided p of no difference, if this is the interval of a difference (Student's t with its degrees of
        freedom); NaN where there is no error, 1 where nothing differs at all."""
        from scipy.special import ndtr, stdtr

        if not isfinite(self.value) or not isfinite(self.error):
            return float("nan")
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        ratio = -abs(self.value) / self.error
        return float(2 * (ndtr(ratio) if self.df == inf else stdtr(self.df, ratio)))


def interval(value: float, samples: Array, prompts: int) -> Interval:
    """95% interval over prompts: the percentile interval of bootstrap replicates, widened for small sets.

    A bootstrap draw spreads less than prompts do, by sqrt((n - 1) / n), and its percentiles are those of a normal law
    where Student's with n - 1 degrees of freedom would be right (T. Hesterberg 2015, "expanded percentile"). At 80
    prompts that is 2% of the width, at 16 prompts 12%.

    Args:
        value: the estimate on the data.
        samples: its bootstrap replicates, (R,); those that are not finite are left out.
        prompts: how many prompts have a value.
    """
    usable = samples[np.isfinite(samples)]
    if len(usable) < 2 or prompts < 2:
        return Interval(value, float("nan"), float("nan"), float("nan"))
    from scipy.special import ndtr

    wider, df = (prompts / (prompts - 1)) ** 0.5, prompts - 1.0
    tail = 100 * float(ndtr(-wider * student_t(0.975, df)))
    low, high = percentiles(usable, tail)
    return Interval(value, low, high, wider * _variance(usable) ** 0.5, df)


def _variance(values: Array) -> float:
    """Variance of some values, with one less than their number as divisor."""
    away = values - np.add.reduce(values) / len(values)  # as mean() gives it, in a quarter of its time
    return float(away @ away) / (len(values) - 1)


class Ends(NamedTuple):
    """Two percentiles."""

    low: float
    high: float


def percentiles(values: Array, tail: float) -> Ends:
    """The percentiles ``tail`` and ``100 - tail``: the numbers of :func:`numpy.percentile`, in a fifth of its time.

    Args:
        values: (R,), all finite.
        tail: percent below the lower one.
    """
    last = len(values) - 1
    places = [share / 100 * last for share in (tail, 100 - tail)]
    below = [min(int(place), last) for place in places]
    ordered = np.partition(values, sorted({i for b in below for i in (b, min(b + 1, last))}))
    ends = []
    for place, b in zip(places, below, strict=True):
        (low, high), t = ordered[[b, min(b + 1, last)]].tolist(), place - b
        ends.append(high - (high - low) * (1 - t) if t >= 0.5 else low + (high - low) * t)
    return Ends(*ends)


def interval_over_seeds(values: Array, samples: Array, prompts: int) -> Interval:
    """95% interval of one method's mean over K training seeds on the same prompts; it carries both variances.

    The error's square is the bootstrap variance over prompts of the seeds' mean plus the seeds' own variance over K.
    The interval is Student's, with the degrees of freedom of Welch and Satterthwaite (3 seeds alone would have 2). What
    differs by seed *and* prompt counts in both parts, so the interval errs on the wide side.

    Args:
        values: estimate of each seed, (K,).
        samples: their bootstrap replicates in one joint draw, (K, RESAMPLES).
        prompts: how many prompts have a value.
    """
    value, centre = float(np.add.reduce(values)) / len(values), np.add.reduce(samples) / len(samples)
    if len(values) == 1:
        return interval(value, centre, prompts)
    finite = np.isfinite(centre)
    usable = centre if finite.all() else centre[finite]
    if len(usable) < 2 or prompts < 2 or not isfinite(value):
        return Interval(value, float("nan"), float("nan"), float("nan"))
    parts = _variance(usable) * prompts / (prompts - 1), _variance(values) / len(values)
    error = sum(parts) ** 0.5
    if error == 0:
        return Interval(value, value, value, 0.0)
    df = error**4 / (parts[0] ** 2 / (prompts - 1) + parts[1] ** 2 / (len(values) - 1))
    half = student_t(0.975, df) * error
    return Interval(value, value - half, value + half, error, df)


def student_t(p: float, df: float) -> float:
    """Quantile of Student's t with ``df`` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, p))
