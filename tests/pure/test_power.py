"""Power: against textbook formulas, and against simulated studies that go through the leaderboard's own test."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
from scipy import stats

from harness.score.bootstrap import interval_over_seeds, replicates
from harness.score.power import Spread, items_needed, power_of, seeds_hide, spread_of, typical


def study(rng: np.random.Generator, spread: Spread, difference: float, items: int, seeds: int) -> np.ndarray:
    """Paired differences with three known sources of spread, (K, n)."""
    seed = 0.0 if isnan(spread.seed) else rng.normal(0, spread.seed, (seeds, 1))
    return difference + rng.normal(0, spread.item, items) + seed + rng.normal(0, spread.rest, (seeds, items))


def shown(differences: np.ndarray, level: float) -> bool:
    """What a leaderboard says: bootstrap over items, Student's t over seeds."""
    ids = list(range(differences.shape[1]))
    parts = [replicates("mean", {"id": ids, "y": row.tolist()}, "y") for row in differences]
    interval = interval_over_seeds(np.array([p.value for p in parts]), np.stack([p.samples for p in parts]), len(ids))
    return interval.p < level


@pytest.mark.parametrize(
    ("spread", "difference", "seeds", "level"),
    [
        (Spread(40.0, nan, 0.0), 8.0, 1, 0.05),
        (Spread(20.0, 0.7, 30.0), 6.0, 3, 0.05),
        (Spread(20.0, 2.0, 30.0), 7.0, 5, 0.05 / 4),
    ],
    ids=["one seed", "three seeds", "five seeds, four rows"],
)
def test_the_number_asked_for_has_power_80(spread: Spread, difference: float, seeds: int, level: float) -> None:
    """300 studies of the size asked for: 80% of them show the difference, Monte Carlo error 2.3 points."""
    rng, items = np.random.default_rng(5), items_needed(spread, difference, seeds, level)
    assert items is not None
    hits = [shown(study(rng, spread, difference, items, seeds), level) for _ in range(300)]
    assert np.mean(hits) == pytest.approx(0.8, abs=3 * 0.023)


def test_one_seed_is_the_paired_t_test() -> None:
    """Cohen's table: dz = 0.5 at 5% with power 80% needs 34 pairs."""
    assert items_needed(Spread(1.0, nan, 0.0), 0.5, 1) == 34
    large = items_needed(Spread(40.0, nan, 0.0), 1.0, 1)
    assert large == pytest.approx((40 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))) ** 2, rel=1e-3)


def test_more_items_do_not_replace_seeds() -> None:
    """With many items what is left is a t test over the seeds."""
    spread = Spread(10.0, 2.0, 10.0)
    assert items_needed(spread, 1.0, 3) is None
    assert seeds_hide(spread, 1.0, 3) and not seeds_hide(spread, 1.0, 1) and not seeds_hide(spread, 10.0, 5)
    unknown = Spread(10.0, nan, 10.0)
    assert items_needed(unknown, 1e-4, 3) is None and not seeds_hide(unknown, 1e-4, 3)
    of_seeds = stats.nct.sf(stats.t.ppf(0.975, 4), 4, 3.0 / (2.0 / 5**0.5))
    assert power_of(spread, 3.0, 10_000_000, 5) == pytest.approx(of_seeds, abs=2e-3)
    needed = [items_needed(spread, 3.0, seeds) for seeds in (5, 8, 12)]
    assert needed == sorted(needed, reverse=True, key=lambda n: n or 10**9)


def test_the_level_is_the_power_at_no_difference() -> None:
    assert power_of(Spread(10.0, nan, 0.0), 0.0, 50, 1) == pytest.approx(0.05)
    assert power_of(Spread(10.0, 3.0, 5.0), 0.0, 50, 4) < 0.05


def test_spread_is_what_made_the_data() -> None:
    rng, truth = np.random.default_rng(6), Spread(3.0, 0.5, 2.0)
    estimates = [spread_of(study(rng, truth, 1.0, 300, 4)) for _ in range(100)]
    together = typical(estimates)
    assert together.item == pytest.approx(truth.item, rel=0.03)
    assert together.rest == pytest.approx(truth.rest, rel=0.03)
    assert together.seed == pytest.approx(truth.seed, rel=0.15)
    alone = spread_of(study(rng, truth, 1.0, 5000, 1))
    assert alone.item == pytest.approx((truth.item**2 + truth.rest**2) ** 0.5, rel=0.05)
    assert not alone.seed_is_known
    assert typical([alone, Spread(1, 0.3, 0)]).seed == pytest.approx(0.3)
    assert not typical([alone]).seed_is_known


def test_items_without_a_value_are_left_out() -> None:
    values = np.array([[1.0, 2.0, nan, 4.0], [2.0, 1.0, 5.0, 3.0]])
    assert spread_of(values) == spread_of(values[:, [0, 1, 3]])
    with pytest.raises(ValueError, match="two items"):
        spread_of(np.array([[1.0, nan]]))
