"""From result files to the numbers of a table: columns by protocol, values over seeds, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from harness.report.board_columns import Column, ColumnKey, columns_of
from harness.score.bootstrap import SCALES, Estimate, Interval, interval_over_seeds, replicates, replicates_of_runs
from harness.score.columns import Array, float_column, prompts_with_value
from harness.score.estimators import FITTED
from harness.score.fits import KeptFits
from harness.score.results import Columns, Metric, RunResult
from harness.score.verdicts import Difference, compared_together

__all__ = ["Board", "Cell", "Column", "SeedEstimates"]


_Measured = tuple[RunResult, Metric, Columns]


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
    """All results of one recipe under one budget.

    Args:
        results: of all runs; the board does not change them, and nobody else may.
        fits: those that have been made before.
    """

    def __init__(self, results: Sequence[RunResult], fits: KeptFits | None = None) -> None:
        self.results = list(results)
        self.fits = KeptFits() if fits is None else fits
        self.finished = [r for r in results if r.status == "ok"]
        self.reference = results[0].reference if results else "dpo"
        order = {"start": 0, self.reference: 1}
        self._runs: dict[str, list[RunResult]] = {}
        for run in sorted(self.finished, key=lambda r: r.seed):
            self._runs.setdefault(run.method, []).append(run)
        self.methods = sorted(self._runs, key=lambda m: (order.get(m, 2), m))
        self._all_columns = columns_of(self.finished)
        self._cells: dict[ColumnKey, dict[str, Cell]] = {}
        self._differences: dict[tuple[str, str, ColumnKey], Interval | None] = {}

    def runs_of(self, method: str) -> list[RunResult]:
        """Finished runs of a method, by seed."""
        return self._runs.get(method, [])

    def columns(self, *, primary: bool | None = None, benchmark: str | None = None) -> list[Column]:
        """Columns in the order in which the runs list them, without those of an older protocol.

        Args:
            primary: only metrics that are primary, or only those that are not; all if it is None.
            benchmark: only those of one benchmark.
        """
        return [
            c
            for c in self._all_columns.shown
            if benchmark in (None, c.benchmark) and (primary is None or c.metric.primary == primary)
        ]

    def older_columns(self) -> list[Column]:
        """Columns of protocols that a newer one of the same benchmark has replaced."""
        return list(self._all_columns.older)

    def cell(self, method: str, column: Column) -> Cell | None:
        """A method's value in a column; None where it was not measured under that protocol."""
        if column.key not in self._cells:
            self._cells[column.key] = self._cells_of(column)
        return self._cells[column.key].get(method)

    def _cells_of(self, column: Column) -> dict[str, Cell]:
        """The cells of all methods that have a column. Means that share the draws of prompts are computed together."""
        measured = {m: runs for m in self.methods if (runs := list(self._measured(m, column)))}
        together: dict[tuple[str, str, tuple[object, ...]], list[str]] = {}
        for method, runs in measured.items():
            estimators = {(metric.estimator.kind, metric.estimator.column) for _, metric, _ in runs}
            kind, name = next(iter(estimators))
            if len(estimators) == 1 and kind in SCALES:
                together.setdefault((kind, name, tuple(runs[0][2]["id"])), []).append(method)
        cells = {}
        for (kind, name, _), methods in together.items():
            estimates = iter(replicates_of_runs(kind, [run[2] for m in methods for run in measured[m]], name))
            for method in methods:
                cells[method] = self._cell(method, measured[method], list(islice(estimates, len(measured[method]))))
        for method in measured.keys() - cells.keys():
            each = [self._estimate(m.estimator.kind, c, m.estimator.column) for _, m, c in measured[method]]
            cells[method] = self._cell(method, measured[method], each)
        return cells

    def _measured(self, method: str, column: Column) -> Iterator[_Measured]:
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

    def _cell(self, method: str, measured: Sequence[_Measured], each: Sequence[Estimate]) -> Cell:
        """A cell from what was measured and estimated, a run each."""
        runs, metrics, columns = zip(*measured, strict=True)
        estimates = _stacked(each)
        prompts = min(prompts_with_value(c, m.estimator.column) for m, c in zip(metrics, columns, strict=True))
        untrained = len(self.runs_of(method)) == 1 and runs[0].learning_rate is None
        return Cell(
            interval=interval_over_seeds(*estimates, prompts),
            values=estimates.values,
            samples=estimates.samples,
            seeds=None if untrained else tuple(run.seed for run in runs),
            ids=tuple(columns[0]["id"]),
            n_valid=sum(m.n_valid for m in metrics),
            n_total=sum(m.n_total for m in metrics),
            prompts=prompts,
        )

    def _estimate(self, kind: str, columns: Columns, column: str) -> Estimate:
        if kind in FITTED:
            return self.fits.fitted(kind, columns, column).estimate
        return replicates(kind, columns, column)

    def difference(self, method: str, other: str, column: Column) -> Interval | None:
        """Method minus other on the same prompts, in one joint draw, seed by seed over the seeds that both have.

        Args:
            method: a row of the table.
            other: the row to compare it with.
            column: the metric.

        Returns:
            None where the two cannot be paired.
        """
        key = (method, other, column.key)
        if key not in self._differences:
            self._differences[key] = self._difference(method, other, column)
        return self._differences[key]

    def _difference(self, method: str, other: str, column: Column) -> Interval | None:
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
        estimates = replicates_of_runs("percent", [{"id": a.ids, "won": 0.5 + 0.5 * np.sign(g)} for g in gaps], "won")
        return interval_over_seeds(*_stacked(estimates), min(a.prompts, b.prompts))

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


def _stacked(estimates: Sequence[Estimate]) -> SeedEstimates:
    return SeedEstimates(np.array([e.value for e in estimates]), np.stack([e.samples for e in estimates]))
