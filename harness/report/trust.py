"""What says how far a comparison can be trusted: seed lottery, tuning certificates, pooled tests; from a board."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from harness.report.board import Board, Column
from harness.score.bootstrap import Interval
from harness.score.columns import Array
from harness.score.estimators import FITTED
from harness.score.fits import KeptFits
from harness.score.item_values import item_values
from harness.score.pairing import ItemValues, Pair, paired_metrics
from harness.score.pooled import PairedItems, Pooled, pooled_difference
from harness.score.results import Columns, RunResult
from harness.score.seed_lottery import SeedLottery, seed_lottery
from harness.score.tuning_certificate import TuningCertificate, tuning_certificate
from harness.score.verdicts import Difference, compared_together


def lottery_of(board: Board, column: Column, controls: Collection[str] = ()) -> SeedLottery:
    """The seed lottery of a column, over all rows that have a value in it.

    Args:
        board: all results of a page.
        column: a metric of which one direction is better.
        controls: rows that are no candidates for the winner.
    """
    cells = {m: cell for m in board.methods if m not in controls and (cell := board.cell(m, column)) is not None}
    scores = {method: cell.values.tolist() for method, cell in cells.items()}
    untrained = [method for method, cell in cells.items() if cell.seeds is None]
    return seed_lottery(scores, better=column.metric.better, untrained=untrained)


def certificates_of(board: Board) -> dict[str, TuningCertificate]:
    """The tuning certificate of each row that was trained. All seeds of a row share one search."""
    certificates = {method: tuning_certificate(board.runs_of(method)[0]) for method in board.methods}
    return {method: certificate for method, certificate in certificates.items() if certificate is not None}


class PooledFamily(NamedTuple):
    """Every row against one: ``differences``, in standard deviations of a paired item difference, with Holm's
    correction over rows; and by row what they were ``pooled`` from."""

    differences: list[Difference]
    pooled: dict[str, Pooled]


def pooled_differences(board: Board, other: str) -> PooledFamily:
    """Every other row against ``other``, pooled over benchmarks.

    Args:
        board: all results of a page.
        other: the row to compare with.
    """
    theirs, once = board.runs_of(other), _Remembered(board.fits)
    pooled = {m: pooled_rows(board.runs_of(m), theirs, once) for m in board.methods if m != other}
    shown = {method: result for method, result in pooled.items() if result.interval.has_value}
    family = compared_together(list(shown), [result.interval for result in shown.values()], 1)
    return PooledFamily(family, pooled)


class _Remembered:
    """:func:`item_values` that computes those of a run once: the row that all are compared with is in every pair.

    Args:
        fits: which have the item values of estimators that fit something.
    """

    def __init__(self, fits: KeptFits) -> None:
        self._fits = fits
        self._values: dict[tuple[str, int, str], Array] = {}

    def __call__(self, kind: str, columns: Columns, column: str) -> Array:
        """Per-item values; the board keeps the columns, so that their identity stands for them."""
        if kind in FITTED:
            return self._fits.fitted(kind, columns, column).items
        key = (kind, id(columns), column)
        if key not in self._values:
            self._values[key] = item_values(kind, columns, column)
        return self._values[key]


def pooled_rows(first: Sequence[RunResult], second: Sequence[RunResult], values_of: ItemValues = item_values) -> Pooled:
    """A row minus another, pooled over benchmarks: the first primary metric of each, on the seeds that all have.

    A benchmark on the prompts of one before it is left out, since an item that counts twice would count as two.

    Args:
        first: runs of a row.
        second: runs of the row to compare with.
        values_of: as :func:`item_values`, which may remember what it returned.
    """
    chosen: dict[str, Pair] = {}
    for pair in paired_metrics(first, second):
        if pair.metric.better:
            chosen.setdefault(pair.benchmark, pair)
    prompts: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name in list(chosen):
        shared = _prompts_of(first, name)
        if shared and prompts.setdefault(shared, name) != name:
            left_out[name] = f"on the prompts of {prompts[shared]}"
            del chosen[name]
    seeds = set.intersection(*(set(pair.seeds) for pair in chosen.values())) if chosen else set()
    parts = []
    for name, pair in chosen.items():
        places = [place for place, seed in enumerate(pair.seeds) if seed in seeds]
        parts.append(PairedItems(name, pair.metric.better * pair.differences(values_of)[places]))
    if not seeds:
        return Pooled(Interval(*[float("nan")] * 4), {}, left_out, 0)
    result = pooled_difference(parts)
    return result._replace(left_out=left_out | result.left_out)


def _prompts_of(runs: Sequence[RunResult], benchmark: str) -> str:
    """The hash of the recipe's evaluation prompts in a protocol; "" if the benchmark has a set of its own."""
    result = next((b for run in runs if (b := run.benchmark(benchmark)) is not None), None)
    return str(result.protocol.get("prompts", "")) if result else ""
