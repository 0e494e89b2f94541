"""Keyed noise is a pure function of its key, uniform, and independent between keys."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sail.noise import categorical, uniform, uniforms


def test_depends_on_the_key_alone() -> None:
    before = uniforms((1, 2, 3, "token", 0), 8)
    np.random.seed(0)
    np.random.rand(100)
    assert (uniforms((1, 2, 3, "token", 0), 8) == before).all()
    assert (uniforms((1, 2, 3, "token", 0), 4) == before[:4]).all()


@pytest.mark.parametrize("other", [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 2, "3"), (12, 3)])
def test_every_part_of_the_key_matters(other: tuple[int | str, ...]) -> None:
    assert uniform((1, 2, 3)) != uniform(other)


def test_uniform_over_keys() -> None:
    draws = [uniform((0, example, 0, "route")) for example in range(4000)]
    assert stats.kstest(draws, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.06


def test_categorical_takes_each_share() -> None:
    draws = [categorical((0.2, 0.0, 0.3), uniform((5, i))) for i in range(6000)]
    counts = np.bincount(draws, minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], [1200, 1800, 3000]).pvalue > 1e-3
