"""The seed lottery: how often one training seed names another winner than the mean over seeds does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np


@dataclass(frozen=True)
class SeedLottery:
    """What one seed would have said.

    Attributes:
        winner: the method with the best mean over seeds; "" if several share it, or there is none.
        chance: that a draw of one stored seed for each method names another winner; None if it is not known.
        seeds: seeds of the method that has fewest, those without training left out.
        reason: why the chance is not known; "" if it is.
    """

    winner: str
    chance: float | None
    seeds: int
    reason: str = ""

    @property
    def text(self) -> str:
        """A few words for a table: ``31%``, or ``unknown`` with the reason."""
        return f"{self.reason}: unknown" if self.chance is None else f"{100 * self.chance:.0f}%"


def seed_lottery(
    scores: Mapping[str, Sequence[float]], *, better: int = 1, untrained: Collection[str] = ()
) -> SeedLottery:
    """The chance that one seed names another winner than the mean over seeds does.

    All combinations of one stored seed for each method count alike: what readers of single-seed results see. They
    are not listed but counted by a product, since seeds of different methods are independent. Where the best score of
    a combination is shared, each of those who share it wins equally often. With few seeds the chance is itself a rough
    figure: three seeds of two methods have nine combinations.

    Args:
        scores: by method, the score of each seed, in any order and number.
        better: 1 if higher is better, -1 if lower is.
        untrained: methods of which the one score is no matter of a seed, such as the start policy.
    """
    if better not in (1, -1):
        raise ValueError("A seed lottery needs a score of which one direction is better: give better=1 or better=-1")
    values = {m: better * np.asarray(v, dtype=np.float64) for m, v in scores.items()}
    if len(values) < 2:
        return SeedLottery("", None, 0, "fewer than two methods")
    trained = {m: v for m, v in values.items() if m not in untrained}
    fewest = min((len(v) for v in trained.values()), default=0)
    if not all(len(v) and all(map(isfinite, v)) for v in values.values()):
        return SeedLottery("", None, fewest, "a score is missing")
    means = {m: float(v.mean()) for m, v in values.items()}
    best = [m for m in means if np.isclose(means[m], max(means.values()), rtol=1e-12, atol=1e-12)]
    winner = best[0] if len(best) == 1 else ""
    if fewest < 2:
        return SeedLottery(winner, None, fewest, "one seed")
    if not winner:
        return SeedLottery("", None, fewest, "several methods share the best mean")
    return SeedLottery(winner, max(0.0, 1 - _wins(values, winner)), fewest)


def _wins(values: Mapping[str, np.ndarray], winner: str) -> float:
    """The share of combinations that a method wins, a tie of k methods counting 1 / k.

    For one of its seeds let another method be below in a share a of its seeds and level in a share b. The product of
    a + b z over the others is a polynomial; its coefficient of z^k is the chance of k ties, and its integral over
    [0, 1] weighs that by 1 / (k + 1).
    """
    others = [v for m, v in values.items() if m != winner]
    total = 0.0
    for score in values[winner]:
        ties = np.polynomial.Polynomial([1.0])
        for other in others:
            ties = ties * np.polynomial.Polynomial([(other < score).mean(), (other == score).mean()])
        total += float(ties.integ()(1.0))
    return total / len(values[winner])
