"""Comparisons of several models with one: paired differences, Holm's correction, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

import numpy as np

from harness.score.bootstrap import Interval, interval
from harness.score.columns import Array


class Verdict(StrEnum):
    """What a comparison shows. ``higher`` and ``lower`` are for metrics where neither direction is good."""

    BETTER = "better"
    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"
    NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Difference:
    """A model minus the reference.

    ``interval``: 95%, paired by prompt. ``p``: of this comparison alone. ``p_holm``: after Holm's correction for
    all comparisons of the same family.
    """

    model: str
    interval: Interval
    p: float
    p_holm: float
    verdict: Verdict


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given. NaN counts as a comparison and stays NaN."""
    order = sorted(range(len(p)), key=lambda i: (not isfinite(p[i]), p[i]))
    adjusted, worst = [float("nan")] * len(p), 0.0
    for rank, i in enumerate(order):
        if isfinite(p[i]):
            worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
            adjusted[i] = worst
    return adjusted


def verdict_on(difference: Interval, better: int, p: float | None = None) -> Verdict:
    """The verdict on a difference: it is shown where its interval excludes 0 and its corrected p is below 5%.

    Args:
        difference: a model minus the reference.
        better: 1 if higher is better, -1 if lower is, 0 if neither.
        p: its p-value after correction for the other comparisons of its family; None if it is the only one.
    """
    if not np.isfinite(difference.low) or difference.low <= 0 <= difference.high or not (p is None or p < 0.05):
        return Verdict.NO_DIFFERENCE
    up = difference.low > 0
    if better == 0:
        return Verdict.HIGHER if up else Verdict.LOWER
    return Verdict.BETTER if up == (better > 0) else Verdict.WORSE


def compared_together(models: Sequence[str], differences: Sequence[Interval], better: int) -> list[Difference]:
    """One family of comparisons, with Holm's correction over all of them.

    Args:
        models: names, (M,).
        differences: of each model to the same reference, (M,).
        better: 1 if higher is better, -1 if lower is, 0 if neither.
    """
    adjusted = holm([d.p for d in differences])
    return [
        Difference(model, d, d.p, p, verdict_on(d, better, p))
        for model, d, p in zip(models, differences, adjusted, strict=True)
    ]


def differences_from(
    models: Sequence[str], values: Array, samples: Array, reference: str, prompts: int | Sequence[int]
) -> list[Difference]:
    """Every other model against ``reference``, on a metric where higher is better.

    Args:
        models: names, (M,).
        values: the metric of each, (M,).
        samples: bootstrap replicates of one joint draw of prompts for all models, (M, R).
        reference: one of the models.
        prompts: how many prompts have a value, for all models or for each; a difference counts the fewer of its two.
    """
    base, counts = list(models).index(reference), np.broadcast_to(np.asarray(prompts), len(models))
    others = [i for i in range(len(models)) if i != base]
    differences = [
        interval(float(values[i] - values[base]), samples[i] - samples[base], int(min(counts[i], counts[base])))
        for i in others
    ]
    return compared_together([models[i] for i in others], differences, 1)
