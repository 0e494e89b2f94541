"""From result files to the numbers of a table: columns by protocol, values over seeds, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.score.bootstrap import Interval, over_seeds, replicates, valued
from harness.score.estimators import Array, column
from harness.score.results import Columns, Metric, RunResult
from harness.score.verdicts import holm, verdict


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


@dataclass(frozen=True)
class Cell:
    """A method's value in a column: by seed (``seeds`` is None for an untrained policy), and over its seeds.
    ``prompts``: those with a value, in the seed that has fewest."""

    interval: Interval
    values: Array
    samples: Array
    seeds: tuple[int, ...] | None
    ids: tuple[object, ...]
    n_valid: int
    n_total: int
    prompts: int

    def rows(self, seeds: Sequence[int]) -> tuple[Array, Array]:
        """Values (K,) and replicates (K, R) of the given seeds; an untrained policy is the same for each."""
        index = [0] * len(seeds) if self.seeds is None else [self.seeds.index(seed) for seed in seeds]
        return self.values[index], self.samples[index]


@dataclass(frozen=True)
class Compared:
    """A paired difference, its p-value after Holm's correction over the methods compared in the column, and the
    verdict in words."""

    interval: Interval
    p: float
    words: str


class Board:
    """All results of one recipe under one budget."""

    def __init__(self, results: Sequence[RunResult]) -> None:
        self.results = list(results)
        self.ok = [r for r in results if r.status == "ok"]
        self.reference = results[0].reference if results else "dpo"
        order = {"start": 0, self.reference: 1}
        names = dict.fromkeys(r.method for r in self.ok)
        self.methods = sorted(names, key=lambda m: (order.get(m, 2), m))
        self._cells: dict[tuple[str, str, str, str], Cell | None] = {}

    def of(self, method: str) -> list[RunResult]:
        """Finished runs of a method, by seed."""
        return sorted((r for r in self.ok if r.method == method), key=lambda r: r.seed)

    def columns(self, *, primary: bool | None = None, benchmark: str | None = None) -> list[Column]:
        """Columns in the order in which the runs list them."""
        found: dict[tuple[str, str, str], Column] = {}
        for run in self.ok:
            for b in run.benchmarks:
                if benchmark is not None and b.benchmark != benchmark:
                    continue
                for m in b.metrics:
                    if primary is None or m.primary == primary:
                        bare = m.model_copy(update=_EMPTY)
                        column = Column(b.benchmark, b.protocol_hash, b.label, bare)
                        found.setdefault((b.benchmark, b.protocol_hash, m.name), column)
        return list(found.values())

    def cell(self, method: str, column: Column) -> Cell | None:
        """A method's value in a column; None where it was not measured under that protocol."""
        key = (method, column.benchmark, column.protocol_hash, column.metric.name)
        if key not in self._cells:
            self._cells[key] = self._cell(method, column)
        return self._cells[key]

    def _measured(self, method: str, shown: Column) -> Iterator[tuple[RunResult, Metric, Columns]]:
        """Runs of a method that have a column, with their metric and its per-prompt columns; all on the same prompts
        as the first."""
        ids = None
        for run in self.of(method):
            scored = run.benchmark(shown.benchmark)
            if scored is None or scored.protocol_hash != shown.protocol_hash:
                continue
            metric = next((m for m in scored.metrics if m.name == shown.metric.name), None)
            if metric is None:
                continue
            columns = scored.items[metric.estimator.group]
            ids = columns["id"] if ids is None else ids
            if columns["id"] == ids:
                yield run, metric, columns

    def _cell(self, method: str, column: Column) -> Cell | None:
        parts, seeds, ids, valid, total = [], [], None, 0, 0
        prompts = []
        runs = self.of(method)
        for run, metric, columns in self._measured(method, column):
            ids, valid, total = tuple(columns["id"]), valid + metric.n_valid, total + metric.n_total
            parts.append(replicates(metric.estimator.kind, columns, metric.estimator.column))
            prompts.append(valued(columns, metric.estimator.column))
            seeds.append(run.seed)
        if ids is None:
            return None
        values, samples = np.array([value for value, _ in parts]), np.stack([s for _, s in parts])
        fixed = len(runs) == 1 and runs[0].learning_rate is None
        found = over_seeds(values, samples, min(prompts))
        return Cell(found, values, samples, None if fixed else tuple(seeds), ids, valid, total, min(prompts))

    def difference(self, method: str, other: str, column: Column) -> Interval | None:
        """Method minus other on the same prompts, in one joint draw, seed by seed over the seeds that both have; None
        where they cannot be paired."""
        a, b = self.cell(method, column), self.cell(other, column)
        seeds = _shared(a, b)
        if a is None or b is None or not seeds:
            return None
        (x, xs), (y, ys) = a.rows(seeds), b.rows(seeds)
        return over_seeds(x - y, xs - ys, min(a.prompts, b.prompts))

    def wins(self, method: str, other: str, shown: Column) -> Interval | None:
        """Percent of prompts on which a method's value in a column is higher than another's, ties half: paired as
        :meth:`difference`, seed by seed. None where they cannot be paired."""
        a, b = self.cell(method, shown), self.cell(other, shown)
        seeds = _shared(a, b)
        if a is None or b is None or not seeds:
            return None
        gaps = self._by_prompt(method, shown, a, seeds) - self._by_prompt(other, shown, b, seeds)
        parts = [replicates("percent", {"id": a.ids, "won": 0.5 + 0.5 * np.sign(gap)}, "won") for gap in gaps]
        values, samples = np.array([value for value, _ in parts]), np.stack([s for _, s in parts])
        return over_seeds(values, samples, min(a.prompts, b.prompts))

    def _by_prompt(self, method: str, shown: Column, cell: Cell, seeds: Sequence[int]) -> Array:
        """Per-prompt values of a metric that is the mean of a column, shape (K, prompts), as :meth:`Cell.rows`."""
        found = [column(columns, metric.estimator.column) for _, metric, columns in self._measured(method, shown)]
        return np.stack(found)[[0] * len(seeds) if cell.seeds is None else [cell.seeds.index(s) for s in seeds]]

    def compared(self, other: str, column: Column) -> dict[str, Compared]:
        """Every other method that can be paired with ``other`` in a column: one family of comparisons."""
        paired = {m: self.difference(m, other, column) for m in self.methods if m != other}
        found = {m: d for m, d in paired.items() if d is not None and d.known}
        adjusted = holm([d.p for d in found.values()])
        return {
            m: Compared(d, p, verdict(d, column.metric.better, p))
            for (m, d), p in zip(found.items(), adjusted, strict=True)
        }

    def detectable(self, column: Column, other: str) -> float | None:
        """Minimum detectable difference to ``other``: paired, the median over methods; unpaired while there is none."""
        found = [self.difference(m, other, column) for m in self.methods if m not in (other, "start")]
        sizes = [d.mdd for d in found if d is not None and np.isfinite(d.error) and d.error > 0]
        if not sizes:  # nothing to pair with yet: as if the two models were independent
            alone = [c.interval.mdd * 2**0.5 for m in self.methods if (c := self.cell(m, column))]
            sizes = [size for size in alone if np.isfinite(size) and size > 0]
        return float(np.median(sizes)) if sizes else None


def _shared(a: Cell | None, b: Cell | None) -> list[int]:
    """Seeds that two cells on the same prompts share ([0] for two untrained policies); none if they do not pair."""
    if a is None or b is None or a.ids != b.ids:
        return []
    own = [cell.seeds for cell in (a, b) if cell.seeds is not None]
    return sorted(set(own[0]).intersection(*own[1:])) if own else [0]


_EMPTY: dict[str, object] = {"value": None, "low": None, "high": None, "mdd": None, "n_valid": 0, "n_total": 0}
