"""Bootstrap over prompts: intervals, paired differences, minimum detectable differences and verdicts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.stats.estimators import ESTIMATORS, Array
from sail.noise import generator

RESAMPLES = 1000
POWER_FACTOR = 1.959964 + 0.841621  # two-sided 5% level, power 80%


def draws(count: int, resamples: int = RESAMPLES) -> Array:
    """Bootstrap counts of ``count`` prompts, shape (resamples, count). A pure function of its arguments, so that all
    models are resampled with one joint draw."""
    rng = generator(("bootstrap", count, resamples))
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def replicates(kind: str, columns: Mapping[str, Sequence[Any]], column: str) -> tuple[float, Array]:
    """The estimate on the data, and its bootstrap replicates (shape (RESAMPLES,))."""
    count = len(columns["id"])
    if count == 0:
        return float("nan"), np.full(RESAMPLES, np.nan)
    estimate = ESTIMATORS[kind]
    value = float(estimate(columns, column, np.ones((1, count)))[0])
    return value, estimate(columns, column, draws(count))


@dataclass(frozen=True)
class Interval:
    """A value with its 95% percentile interval and its standard error."""

    value: float
    low: float
    high: float
    error: float

    @property
    def mdd(self) -> float:
        """Minimum detectable difference, if this is the interval of a difference."""
        return POWER_FACTOR * self.error


def interval(value: float, samples: Array) -> Interval:
    """95% percentile interval of bootstrap replicates."""
    usable = samples[np.isfinite(samples)]
    if len(usable) == 0:
        return Interval(value, float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(usable, [2.5, 97.5])
    return Interval(value, float(low), float(high), float(usable.std(ddof=1)))


def mean_over_seeds(parts: Sequence[tuple[float, Array]]) -> tuple[float, Array]:
    """Mean of one method's seeds on the same prompts and the same draws.

    With several seeds each replicate also draws seeds with replacement, so that the interval carries both variances;
    the draw's deviation is scaled by sqrt(K / (K - 1)), since K drawn seeds vary less than K new ones would.
    """
    values = np.array([value for value, _ in parts])
    samples = np.stack([s for _, s in parts])
    if len(parts) == 1:
        return float(values[0]), samples[0]
    rng = generator(("seeds", len(parts), samples.shape[1]))
    picked = rng.integers(len(parts), size=samples.shape[::-1])
    drawn, centre = np.take_along_axis(samples.T, picked, 1).mean(1), samples.mean(0)
    scale = np.sqrt(len(parts) / (len(parts) - 1))
    return float(values.mean()), centre + scale * (drawn - centre)


def verdict(difference: Interval, better: int) -> str:
    """``better``, ``worse`` or ``no difference shown``; ``higher`` / ``lower`` where neither direction is good."""
    if not np.isfinite(difference.low) or difference.low <= 0 <= difference.high:
        return "no difference shown"
    up = difference.low > 0
    if better == 0:
        return "higher" if up else "lower"
    return "better" if up == (better > 0) else "worse"
