"""Comparisons of several models with one: paired differences, Holm's correction, verdicts in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from harness.score.bootstrap import Interval, interval
from harness.score.estimators import Array


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given. NaN counts as a comparison and stays NaN."""
    order = sorted(range(len(p)), key=lambda i: (not isfinite(p[i]), p[i]))
    out, worst = [float("nan")] * len(p), 0.0
    for rank, i in enumerate(order):
        if isfinite(p[i]):
            worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
            out[i] = worst
    return out


def verdict(difference: Interval, better: int, p: float | None = None) -> str:
    """``better``, ``worse`` or ``no difference shown``; ``higher`` / ``lower`` where neither direction is good.

    Args:
        p: its p-value after correction for the comparisons made beside it; a difference is shown where its own
            interval leaves out 0 and this is below 5%.
    """
    if not np.isfinite(difference.low) or difference.low <= 0 <= difference.high or not (p is None or p < 0.05):
        return "no difference shown"
    up = difference.low > 0
    if better == 0:
        return "higher" if up else "lower"
    return "better" if up == (better > 0) else "worse"


@dataclass(frozen=True)
class Difference:
    """A model minus the reference: ``interval`` (95%, paired by prompt), ``p`` and ``p_holm``, ``verdict``."""

    model: str
    interval: Interval
    p: float
    p_holm: float
    verdict: str


def against(
    models: Sequence[str], values: Array, samples: Array, reference: str, prompts: int | Sequence[int]
) -> list[Difference]:
    """Every other model against ``reference``.

    Args:
        values: (M,). samples: bootstrap replicates of one joint draw of prompts for all models, (M, R). prompts: how
            many have a value, of all models or of each; a difference counts the fewer of its two.
    """
    base, counts = list(models).index(reference), np.broadcast_to(np.asarray(prompts), len(models))
    others = [i for i in range(len(models)) if i != base]
    found = [
        interval(float(values[i] - values[base]), samples[i] - samples[base], int(min(counts[i], counts[base])))
        for i in others
    ]
    adjusted = holm([f.p for f in found])
    return [Difference(models[i], f, f.p, p, verdict(f, 1, p)) for i, f, p in zip(others, found, adjusted, strict=True)]
