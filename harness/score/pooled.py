"""One paired test of two methods over several benchmarks.

Each benchmark alone may be too small to show a difference. Benchmarks have units of their own, so that differences are
pooled in standard deviations of the paired item difference, and all items of all benchmarks count alike. The idea,
items paired and pooled over benchmarks, is that of Kuebler et al. 2026 (arXiv 2602.10144).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.score.bootstrap import Interval, student_t
from harness.score.columns import Array


class PairedItems(NamedTuple):
    """Paired differences on one benchmark: ``differences`` (K seeds, n items), above 0 where the first method is
    better; NaN where one of the two has no value."""

    benchmark: str
    differences: Array


class Pooled(NamedTuple):
    """A pooled difference.

    Attributes:
        interval: of the mean difference, in standard deviations of a paired item difference; its ``p`` is the test's.
        items: pooled, by benchmark.
        left_out: why a benchmark is not in it, by name.
        seeds: shared by the two methods.
    """

    interval: Interval
    items: dict[str, int]
    left_out: dict[str, str]
    seeds: int


def pooled_difference(parts: Sequence[PairedItems]) -> Pooled:
    """The pooled difference of two methods with its 95% interval and two-sided p-value.

    With n_b items in benchmark b, N in all, and m_b and s_b the mean and standard deviation of the paired differences
    (of an item's mean over seeds), the pooled difference is sum_b (n_b / N) m_b / s_b. Its error over items is
    sqrt(1 / N), so that with one seed it is Stouffer's sum of the benchmarks' own statistics, weighted by the root of
    their items; with one benchmark it is the paired t test. The seeds' variance joins it as in
    :func:`harness.score.bootstrap.interval_over_seeds`: a seed makes one policy, which all benchmarks share.

    Benchmarks must not share prompts: an item that counts twice would count as two.

    Args:
        parts: one for each benchmark, all with the same K seeds in the same order.

    Raises:
        ValueError: benchmarks differ in their number of seeds.
    """
    seeds = {part.differences.shape[0] for part in parts}
    if len(seeds) > 1:
        raise ValueError("Pooled benchmarks need the same seeds: leave out those that a benchmark lacks")
    scaled, left_out = {}, {}
    for name, differences in parts:
        paired = differences[:, ~np.isnan(differences).any(0)]
        of_items = paired.mean(0) if paired.size else np.array([])
        spread = float(of_items.std(ddof=1)) if len(of_items) > 1 else 0.0
        if len(of_items) < 2:
            left_out[name] = "fewer than two items in common"
        elif spread <= 1e-12 * float(np.abs(of_items).max()):
            left_out[name] = "every item differs by the same" if of_items.any() else "no item differs"
        else:
            scaled[name] = paired / spread
    counts = {name: part.shape[1] for name, part in scaled.items()}
    return Pooled(_interval(list(scaled.values())), counts, left_out, max(seeds, default=0))


def _interval(parts: Sequence[Array]) -> Interval:
    """Mean over all items of all parts, each (K, n_b) in units of its own spread."""
    if not parts:
        return Interval(*[float("nan")] * 4)
    total = sum(part.shape[1] for part in parts)
    by_seed = sum(part.sum(1) for part in parts) / total
    value, variances, freedoms = float(by_seed.mean()), [1 / total], [_freedom(parts, total)]
    if len(by_seed) > 1:
        variances.append(float(by_seed.var(ddof=1)) / len(by_seed))
        freedoms.append(len(by_seed) - 1.0)
    error = sum(variances) ** 0.5
    df = error**4 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
    half = student_t(0.975, df) * error
    return Interval(value, value - half, value + half, error, df)


def _freedom(parts: Sequence[Array], total: int) -> float:
    """Degrees of freedom of the error over items (Welch and Satterthwaite): each part's variance is estimated from its
    own items and is n_b / N of the whole."""
    counts = [int(part.shape[1]) for part in parts]
    return 1 / sum((count / total) ** 2 / (count - 1) for count in counts)
