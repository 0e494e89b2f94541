"""From result files to the numbers of a table: columns by protocol, values over seeds, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.results import Metric, RunResult
from harness.stats.bootstrap import Interval, holm, over_seeds, replicates, verdict
from harness.stats.estimators import Array


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
    """A method's value in a column: by seed (``seeds`` is None for an untrained policy), and over its seeds."""

    interval: Interval
    values: Array
    samples: Array
    seeds: tuple[int, ...] | None
    ids: tuple[object, ...]
    n_valid: int
    n_total: int

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

    def _cell(self, method: str, column: Column) -> Cell | None:
        parts, seeds, ids, valid, total = [], [], None, 0, 0
        runs = self.of(method)
        for run in runs:
            scored = run.benchmark(column.benchmark)
            if scored is None or scored.protocol_hash != column.protocol_hash:
                continue
            metric = scored.metric(column.metric.name)
            own = tuple(scored.items[metric.estimator.group]["id"])
            if ids is not None and own != ids:
                continue
            ids, valid, total = own, valid + metric.n_valid, total + metric.n_total
            how = metric.estimator
            parts.append(replicates(how.kind, scored.items[how.group], how.column))
            seeds.append(run.seed)
        if ids is None:
            return None
        values, samples = np.array([value for value, _ in parts]), np.stack([s for _, s in parts])
        fixed = len(runs) == 1 and runs[0].learning_rate is None
        found = over_seeds(values, samples, len(ids))
        return Cell(found, values, samples, None if fixed else tuple(seeds), ids, valid, total)

    def difference(self, method: str, other: str, column: Column) -> Interval | None:
        """Method minus other on the same prompts, in one joint draw, seed by seed over the seeds that both have; None
        where they cannot be paired."""
        a, b = self.cell(method, column), self.cell(other, column)
        if a is None or b is None or a.ids != b.ids:
            return None
        own = [cell.seeds for cell in (a, b) if cell.seeds is not None]
        seeds = sorted(set(own[0]).intersection(*own[1:])) if own else [0]
        if not seeds:
            return None
        (x, xs), (y, ys) = a.rows(seeds), b.rows(seeds)
        return over_seeds(x - y, xs - ys, len(a.ids))

    def compared(self, other: str, column: Column) -> dict[str, Compared]:
        """Every other method that can be paired with ``other`` in a column: one family of comparisons."""
        found = {m: d for m in self.methods if m != other and (d := self.difference(m, other, column)) is not None}
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


_EMPTY: dict[str, object] = {"value": None, "low": None, "high": None, "mdd": None, "n_valid": 0, "n_total": 0}
