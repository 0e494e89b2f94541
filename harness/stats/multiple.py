"""Comparisons of several models with one: paired differences, Holm's correction, verdicts in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.stats.bootstrap import Interval, holm, interval, verdict

Array = NDArray[np.float64]


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
