"""Comparisons of several models with one: paired differences, Holm's correction, verdicts in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from harness.stats.bootstrap import Interval, interval

Array = NDArray[np.float64]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given. NaN counts as a comparison and stays NaN."""
    order = sorted(range(len(p)), key=lambda i: (not isfinite(p[i]), p[i]))
    out, worst = [float("nan")] * len(p), 0.0
    for rank, i in enumerate(order):
        if isfinite(p[i]):
            worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
            out[i] = worst
    return out


def p_value(difference: float, error: float) -> float:
    """Two-sided p of a difference with a normal error; 1 where both are 0."""
    if not isfinite(difference) or not isfinite(error):
        return float("nan")
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return erfc(abs(difference) / error / sqrt(2))


@dataclass(frozen=True)
class Difference:
    """A model minus the reference: ``interval`` (95%, paired by prompt), ``p`` and ``p_holm``, ``verdict``."""

    model: str
    interval: Interval
    p: float
    p_holm: float
    verdict: str


def against(models: Sequence[str], values: Array, samples: Array, reference: str) -> list[Difference]:
    """Every other model against ``reference``.

    Args:
        values: (M,). samples: bootstrap replicates of one joint draw of prompts for all models, (M, R).
    """
    base = list(models).index(reference)
    others = [i for i in range(len(models)) if i != base]
    found = [interval(float(values[i] - values[base]), samples[i] - samples[base]) for i in others]
    p = [p_value(f.value, f.error) for f in found]
    adjusted = holm(p)
    words = []
    for difference, value in zip(found, adjusted, strict=True):
        shown = isfinite(value) and value < 0.05
        words.append(("better" if difference.value > 0 else "worse") if shown else "no difference shown")
    return [Difference(models[i], f, a, b, w) for i, f, a, b, w in zip(others, found, p, adjusted, words, strict=True)]
