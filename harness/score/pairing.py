"""Two rows on the same items: what paired differences, flips, pooled tests and power are computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.score.bootstrap import Estimate, Interval, interval_over_seeds, replicates
from harness.score.columns import Array, prompts_with_value
from harness.score.item_values import item_values
from harness.score.results import BenchmarkResult, Columns, Metric, RunResult

ItemValues = Callable[[str, Columns, str], Array]


@dataclass(frozen=True)
class Side:
    """A row's measurements of one metric: the runs' ``columns``, in the order of the pair's seeds."""

    metric: Metric
    columns: tuple[Columns, ...]

    def items(self, values_of: ItemValues = item_values) -> Array:
        """Per-item values, (K seeds, n items)."""
        estimator = self.metric.estimator
        return np.stack([values_of(estimator.kind, c, estimator.column) for c in self.columns])

    def estimates(self) -> list[Estimate]:
        """Of each seed, with bootstrap replicates in one joint draw of items."""
        estimator = self.metric.estimator
        return [replicates(estimator.kind, c, estimator.column) for c in self.columns]

    @property
    def prompts(self) -> int:
        """Items with a value, in the seed that has fewest."""
        return min(prompts_with_value(c, self.metric.estimator.column) for c in self.columns)


@dataclass(frozen=True)
class Pair:
    """One metric of two rows on the same items.

    Attributes:
        benchmark: its name; title: of the metric, with the label of a reduced set.
        metric: without value.
        ids: the items; seeds: of the training, those that both rows have ([0] for two untrained policies).
        first: the row; second: the one that it is compared with.
    """

    benchmark: str
    title: str
    metric: Metric
    ids: tuple[object, ...]
    seeds: tuple[int, ...]
    first: Side
    second: Side

    def differences(self, values_of: ItemValues = item_values) -> Array:
        """First minus second, item by item, (K, n). ``values_of`` may remember what :func:`item_values` returned."""
        return self.first.items(values_of) - self.second.items(values_of)

    def interval(self) -> Interval:
        """First minus second with its 95% interval over items and seeds, as on a leaderboard."""
        ours, theirs = self.first.estimates(), self.second.estimates()
        values = np.array([a.value - b.value for a, b in zip(ours, theirs, strict=True)])
        samples = np.stack([a.samples - b.samples for a, b in zip(ours, theirs, strict=True)])
        return interval_over_seeds(values, samples, min(self.first.prompts, self.second.prompts))


def is_untrained(runs: Sequence[RunResult]) -> bool:
    """Whether a row's one run is that of a policy without training, the same for every seed."""
    return len(runs) == 1 and runs[0].learning_rate is None


def paired_seeds(first: Sequence[RunResult], second: Sequence[RunResult]) -> list[tuple[RunResult, RunResult]]:
    """Runs of two rows, seed by seed; an untrained policy goes with every seed."""
    ours, theirs = ({run.seed: run for run in runs} for runs in (first, second))
    if is_untrained(first) and not is_untrained(second):
        return [(first[0], theirs[seed]) for seed in sorted(theirs)]
    if is_untrained(second) and not is_untrained(first):
        return [(ours[seed], second[0]) for seed in sorted(ours)]
    return [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]


def paired_metrics(
    first: Sequence[RunResult], second: Sequence[RunResult], *, primary: bool | None = True
) -> list[Pair]:
    """Every metric that two rows have on the same items under the same protocol.

    Args:
        first: runs of a row, one a seed.
        second: runs of the row that it is compared with.
        primary: only metrics that are primary, or only those that are not; all if it is None.
    """
    runs = paired_seeds(first, second)
    if not runs:
        return []
    return [
        pair
        for result in runs[0][0].benchmarks
        for metric in result.metrics
        if primary is None or metric.primary == primary
        if (pair := _pair(runs, result, metric)) is not None
    ]


def _pair(runs: Sequence[tuple[RunResult, RunResult]], result: BenchmarkResult, metric: Metric) -> Pair | None:
    """A metric over the seeds in which both rows have it on the same items; None if there is no such seed."""
    ids = result.items[metric.estimator.group]["id"]
    seeds, ours, theirs = [], [], []
    for a, b in runs:
        sides = [columns_of(run, result, metric) for run in (a, b)]
        if all(columns is not None and columns["id"] == ids for columns in sides):
            seeds.append(max(a.seed, b.seed))
            ours.append(sides[0])
            theirs.append(sides[1])
    if not seeds:
        return None
    title = f"{metric.title} ({result.label})" if result.label else metric.title
    bare = metric.model_copy(update={"value": None, "low": None, "high": None, "mdd": None})
    first, second = (Side(bare, tuple(c for c in side if c is not None)) for side in (ours, theirs))
    return Pair(result.benchmark, title, bare, tuple(ids), tuple(seeds), first, second)


def columns_of(run: RunResult, like: BenchmarkResult, metric: Metric) -> Columns | None:
    """The columns of a run that a metric is estimated from; None if it lacks the benchmark under that protocol.

    Args:
        run: whose columns they are.
        like: names the benchmark and the protocol.
        metric: names the estimator, which must be the same.
    """
    result = run.benchmark(like.benchmark)
    if result is None or result.protocol_hash != like.protocol_hash or result.judge != like.judge:
        return None
    if not any(m.name == metric.name and m.estimator == metric.estimator for m in result.metrics):
        return None
    return result.items[metric.estimator.group]
