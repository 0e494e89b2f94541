"""From result files to the numbers of a table: columns by protocol, values over seeds, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.score.bootstrap import Interval, interval_over_seeds, replicates
from harness.score.columns import Array, float_column, prompts_with_value
from harness.score.results import Columns, Metric, RunResult
from harness.score.verdicts import Difference, compared_together


@dataclass(frozen=True)
class Column:
    """A metric under one protocol: two protocol hashes never share a column."""

    benchmark: str
    protocol_hash: str
    label: str
    metric: Metric

    @property
    def title(self) -> str:
        """Heading, with the label of a reduced set."""
        return f"{self.metric.title} ({self.label})" if self.label else self.metric.title


class SeedEstimates(NamedTuple):
    """Estimates of K seeds: ``values`` (K,) and their bootstrap replicates ``samples`` (K, R)."""

    values: Array
    samples: Array


@dataclass(frozen=True)
class Cell:
    """A method's value in a column, over its seeds and by seed.

    ``interval``: of the mean over seeds. ``values`` (K,), ``samples`` (K, R): of each seed, in the order of ``seeds``,
    which is None for an untrained policy. ``ids``: the prompts. ``n_valid``, ``n_total``: summed over seeds.
    ``prompts``: those with a value, in the seed that has fewest.
    """

    interval: Interval
    values: Array
    samples: Array
    seeds: tuple[int, ...] | None
    ids: tuple[object, ...]
    n_valid: int
    n_total: int
    prompts: int

    def places_of(self, seeds: Sequence[int]) -> list[int]:
        """Where the given seeds stand among this cell's; an untrained policy is the same for each."""
        return [0] * len(seeds) if self.seeds is None else [self.seeds.index(seed) for seed in seeds]

    def estimates_of(self, seeds: Sequence[int]) -> SeedEstimates:
        """The estimates of the given seeds."""
        places = self.places_of(seeds)
        return SeedEstimates(self.values[places], self.samples[places])


class Board:
    """All results of one recipe under one budget."""

    def __init__(self, results: Sequence[RunResult]) -> None:
        self.results = list(results)
        self.finished = [r for r in results if r.status == "ok"]
        self.reference = results[0].reference if results else "dpo"
        order = {"start": 0, self.reference: 1}
        names = dict.fromkeys(r.method for r in self.finished)
        self.methods = sorted(names, key=lambda m: (order.get(m, 2), m))
        self._cells: dict[tuple[str, str, str, str], Cell | None] = {}

    def runs_of(self, method: str) -> list[RunResult]:
        """Finished runs of a method, by seed."""
        return sorted((r for r in self.finished if r.method == method), key=lambda r: r.seed)

    def columns(self, *, primary: bool | None = None, benchmark: str | None = None) -> list[Column]:
        """Columns in the order in which the runs list them.

        Args:
            primary: only metrics that are primary, or only those that are not; all if it is None.
            benchmark: only those of one benchmark.
        """
        columns: dict[tuple[str, str, str], Column] = {}
        for run in self.finished:
            for b in run.benchmarks:
                if benchmark is not None and b.benchmark != benchmark:
                    continue
                for m in b.metrics:
                    if primary is None or m.primary == primary:
                        without_value = m.model_copy(update=_NO_VALUE)
                        column = Column(b.benchmark, b.protocol_hash, b.label, without_value)
                        columns.setdefault((b.benchmark, b.protocol_hash, m.name), column)
        return list(columns.values())

    def cell(self, method: str, column: Column) -> Cell | None:
        """A method's value in a column; None where it was not measured under that protocol."""
        key = (method, column.benchmark, column.protocol_hash, column.metric.name)
        if key not in self._cells:
            self._cells[key] = self._cell(method, column)
        return self._cells[key]

    def _measured(self, method: str, column: Column) -> Iterator[tuple[RunResult, Metric, Columns]]:
        """Runs of a method that have a column, with their metric and its per-prompt columns; all on the same prompts
        as the first."""
        ids = None
        for run in self.runs_of(method):
            scored = run.benchmark(column.benchmark)
            if scored is None or scored.protocol_hash != column.protocol_hash:
                continue
            metric = next((m for m in scored.metrics if m.name == column.metric.name), None)
            if metric is None:
                continue
            columns = scored.items[metric.estimator.group]
            ids = columns["id"] if ids is None else ids
            if columns["id"] == ids:
                yield run, metric, columns

    def _cell(self, method: str, column: Column) -> Cell | None:
        estimates, seeds, prompts, ids, valid, total = [], [], [], None, 0, 0
        runs = self.runs_of(method)
        for run, metric, columns in self._measured(method, column):
            ids, valid, total = tuple(columns["id"]), valid + metric.n_valid, total + metric.n_total
            estimates.append(replicates(metric.estimator.kind, columns, metric.estimator.column))
            prompts.append(prompts_with_value(columns, metric.estimator.column))
            seeds.append(run.seed)
        if ids is None:
            return None
        values, samples = np.array([e.value for e in estimates]), np.stack([e.samples for e in estimates])
        untrained = len(runs) == 1 and runs[0].learning_rate is None
        interval = interval_over_seeds(values, samples, min(prompts))
        return Cell(interval, values, samples, None if untrained else tuple(seeds), ids, valid, total, min(prompts))

    def difference(self, method: str, other: str, column: Column) -> Interval | None:
        """Method minus other on the same prompts, in one joint draw, seed by seed over the seeds that both have.

        Args:
            method: a row of the table.
            other: the row to compare it with.
            column: the metric.

        Returns:
            None where the two cannot be paired.
        """
        a, b = self.cell(method, column), self.cell(other, column)
        seeds = _shared_seeds(a, b)
        if a is None or b is None or not seeds:
            return None
        (x, xs), (y, ys) = a.estimates_of(seeds), b.estimates_of(seeds)
        return interval_over_seeds(x - y, xs - ys, min(a.prompts, b.prompts))

    def win_rate(self, method: str, other: str, column: Column) -> Interval | None:
        """Percent of prompts on which a method's value is higher than another's, ties half: paired, seed by seed.

        Args:
            method: a row of the table.
            other: the row to compare it with.
            column: a metric that is the mean of per-prompt values.

        Returns:
            None where the two cannot be paired.
        """
        a, b = self.cell(method, column), self.cell(other, column)
        seeds = _shared_seeds(a, b)
        if a is None or b is None or not seeds:
            return None
        gaps = self._by_prompt(method, column, a, seeds) - self._by_prompt(other, column, b, seeds)
        estimates = [replicates("percent", {"id": a.ids, "won": 0.5 + 0.5 * np.sign(gap)}, "won") for gap in gaps]
        values, samples = np.array([e.value for e in estimates]), np.stack([e.samples for e in estimates])
        return interval_over_seeds(values, samples, min(a.prompts, b.prompts))

    def _by_prompt(self, method: str, column: Column, cell: Cell, seeds: Sequence[int]) -> Array:
        """Per-prompt values of a metric that is the mean of a column, shape (K, prompts), for the given seeds."""
        values = [
            float_column(columns, metric.estimator.column) for _, metric, columns in self._measured(method, column)
        ]
        return np.stack(values)[cell.places_of(seeds)]

    def comparisons_with(self, other: str, column: Column) -> dict[str, Difference]:
        """Every other method that can be paired with ``other`` in a column: one family of comparisons."""
        paired = {m: self.difference(m, other, column) for m in self.methods if m != other}
        measured = {m: d for m, d in paired.items() if d is not None and d.has_value}
        family = compared_together(list(measured), list(measured.values()), column.metric.better)
        return {difference.model: difference for difference in family}

    def detectable(self, column: Column, other: str) -> float | None:
        """Minimum detectable difference to ``other``: paired, the median over methods; unpaired while there is none."""
        paired = [self.difference(m, other, column) for m in self.methods if m not in (other, "start")]
        sizes = [d.mdd for d in paired if d is not None and np.isfinite(d.error) and d.error > 0]
        if not sizes:  # nothing to pair with yet: as if the two models were independent
            alone = [c.interval.mdd * 2**0.5 for m in self.methods if (c := self.cell(m, column))]
            sizes = [size for size in alone if np.isfinite(size) and size > 0]
        return float(np.median(sizes)) if sizes else None


def _shared_seeds(a: Cell | None, b: Cell | None) -> list[int]:
    """Seeds that two cells on the same prompts share ([0] for two untrained policies); none if they do not pair."""
    if a is None or b is None or a.ids != b.ids:
        return []
    trained = [cell.seeds for cell in (a, b) if cell.seeds is not None]
    return sorted(set(trained[0]).intersection(*trained[1:])) if trained else [0]


_NO_VALUE: dict[str, object] = {"value": None, "low": None, "high": None, "mdd": None, "n_valid": 0, "n_total": 0}
