"""How many items and seeds a paired comparison needs, from the spread of paired differences. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np

from harness.score.bootstrap import student_t
from harness.score.columns import Array

POWER, LEVEL = 0.8, 0.05
MOST_ITEMS = 10_000_000


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the paired difference of two methods, in the metric's unit.

    Attributes:
        item: of what an item adds in every seed.
        seed: of what a seed adds on every item; NaN if there was one seed only, so that it is not known.
        rest: of what an item adds in one seed alone (the noise of sampling too); 0 where it counts in ``item``, as it
            does with one seed.
    """

    item: float
    seed: float
    rest: float

    @property
    def seed_is_known(self) -> bool:
        """Whether there was more than one seed to see their spread."""
        return self.seed == self.seed


def spread_of(differences: Array) -> Spread:
    """The spread of paired differences, by analysis of variance with two random factors.

    Args:
        differences: one method minus another, (K seeds, n items); an item without a value in a seed is left out.

    Raises:
        ValueError: fewer than two items are there.
    """
    values = differences[:, ~np.isnan(differences).any(0)]
    seeds, items = values.shape
    if items < 2:
        raise ValueError("The spread of a difference needs at least two items that both methods have")
    if seeds == 1:
        return Spread(float(values.std(ddof=1)), nan, 0.0)
    of_items, of_seeds, mean = values.mean(0), values.mean(1), values.mean()
    rest = float(((values - of_items - of_seeds[:, None] + mean) ** 2).sum()) / ((seeds - 1) * (items - 1))
    item = float(of_items.var(ddof=1)) - rest / seeds
    seed = float(of_seeds.var(ddof=1)) - rest / items
    return Spread(sqrt(max(0.0, item)), sqrt(max(0.0, seed)), sqrt(rest))


def typical(spreads: Sequence[Spread]) -> Spread:
    """One spread for several methods: the root of the mean variances; that of seeds over those that know it."""

    def root_mean(values: Sequence[float]) -> float:
        return sqrt(sum(v * v for v in values) / len(values)) if values else nan

    return Spread(
        root_mean([s.item for s in spreads]),
        root_mean([s.seed for s in spreads if s.seed_is_known]),
        root_mean([s.rest for s in spreads]),
    )


def power_of(spread: Spread, difference: float, items: int, seeds: int, level: float = LEVEL) -> float:
    """The chance that the paired test shows a true difference.

    The test is that of a leaderboard: :func:`harness.score.bootstrap.interval_over_seeds`. With one seed it is about
    those two trained policies and the spread over seeds is not in it. With several, what differs by item and seed
    together counts in both parts of its error, which makes it err on the wide side; the chance allows for that.

    Args:
        spread: of the paired difference; a spread over seeds that is not known counts as 0.
        difference: to be shown, in the unit of the spread.
        items: of the benchmark.
        seeds: trained with each method.
        level: of one comparison, two-sided, after correction.
    """
    from scipy.special import nctdtr

    item, rest, seed = spread.item**2, spread.rest**2, spread.seed**2 if spread.seed_is_known else 0.0
    parts, freedoms = [(item + rest / seeds) / items], [items - 1.0]
    true = parts[0]
    if seeds > 1:
        parts.append((seed + rest / items) / seeds)
        freedoms.append(seeds - 1.0)
        true += seed / seeds
    error = sum(parts)
    if error == 0:
        return float(difference != 0)
    df = error**2 / sum(v**2 / f for v, f in zip(parts, freedoms, strict=True))
    threshold = student_t(1 - level / 2, df) * sqrt(error / true)
    shift = abs(difference) / sqrt(true)
    return float(1 - nctdtr(df, shift, threshold) + nctdtr(df, shift, -threshold))


def seeds_needed(spread: Spread, difference: float, level: float = LEVEL) -> int | None:
    """The fewest seeds with which enough items show a difference with power 80%; None if 1,000 are too few.

    Args:
        spread: of the paired difference.
        difference: to be shown, in the unit of the spread.
        level: of one comparison, two-sided, after correction.
    """
    for seeds in range(2, 1001):
        if power_of(spread, difference, MOST_ITEMS, seeds, level) >= POWER:
            return seeds
    return None


def seeds_hide(spread: Spread, difference: float, seeds: int, level: float = LEVEL) -> bool:
    """Whether the spread over seeds alone hides a difference, however many items there are.

    Args:
        spread: of the paired difference; a spread over seeds that is not known hides nothing.
        difference: to be shown, in the unit of the spread.
        seeds: trained with each method.
        level: of one comparison, two-sided, after correction.
    """
    if seeds == 1 or not spread.seed_is_known or not spread.seed:
        return False
    return power_of(Spread(0.0, spread.seed, 0.0), difference, MOST_ITEMS, seeds, level) < POWER


def items_needed(spread: Spread, difference: float, seeds: int, level: float = LEVEL) -> int | None:
    """The fewest items with which a difference is shown with power 80%; None if :data:`MOST_ITEMS` are too few, mostly
    since the spread over seeds alone hides it (:func:`seeds_hide`).

    Args:
        spread: of the paired difference.
        difference: to be shown, in the unit of the spread.
        seeds: trained with each method.
        level: of one comparison, two-sided, after correction.
    """
    low, high = 1, 2
    while power_of(spread, difference, high, seeds, level) < POWER:
        low, high = high, 2 * high
        if high > MOST_ITEMS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(spread, difference, middle, seeds, level) < POWER:
            low = middle
        else:
            high = middle
    return high
