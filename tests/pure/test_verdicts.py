"""Holm's correction and p-values, by definition and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.score.bootstrap import Interval
from harness.score.verdicts import differences_from, holm

# Holm and p-values


def test_holm_equals_its_definition() -> None:
    """Brute force: the adjusted p of a hypothesis is the least level at which Holm's procedure rejects it."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = list(rng.uniform(0, 0.2, 5))
        adjusted = holm(p)
        for level in np.linspace(0.001, 1, 200):
            order, rejected = np.argsort(p), set()
            for rank, i in enumerate(order):
                if p[i] > level / (len(p) - rank):
                    break
                rejected.add(int(i))
            assert {i for i, a in enumerate(adjusted) if a <= level} == rejected


def test_p_values_equal_scipy() -> None:
    assert Interval(1.3, 0, 0, 0.7).p == pytest.approx(2 * stats.norm.sf(1.3 / 0.7))
    assert Interval(-1.3, 0, 0, 0.7, 3.4).p == pytest.approx(2 * stats.t.sf(1.3 / 0.7, 3.4))
    assert (Interval(0, 0, 0, 0).p, Interval(1, 1, 1, 0).p) == (1, 0)
    assert np.isnan(Interval(1, 0, 0, float("nan")).p)


def test_holm_keeps_its_error_rate() -> None:
    """Four models that do not differ from the reference: a false verdict in about 5% of data sets, not in 19%."""
    rng, false = np.random.default_rng(1), 0
    for _ in range(400):
        values = rng.normal(size=(5, 200))
        weights = rng.multinomial(200, np.full(200, 1 / 200), size=300)
        differences = differences_from(list("abcde"), values.mean(1), values @ weights.T / 200, "a", 200)
        false += any(d.verdict != "no difference shown" for d in differences)
    assert false / 400 < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
