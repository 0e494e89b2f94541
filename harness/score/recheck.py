"""Whether the numbers of a result file follow from what is stored with them: an edited value does not."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple

from harness.budget.ledger import Ledger
from harness.score.estimators import ESTIMATORS
from harness.score.metrics import evaluate
from harness.score.results import BenchmarkResult, Metric, RunResult, read_result
from harness.store.json_files import digest

COMPUTED = ("value", "low", "high", "mdd", "n_valid", "n_total")
"""Fields of a metric that follow from per-item columns."""

TOLERANCE = 1e-5
"""Absolute and relative: values are rounded to 6 digits, and fits may differ in the last ones between machines."""


class Mismatch(NamedTuple):
    """A number that does not follow from what its file holds: under which ``key``, as ``stored``, as ``computed``."""

    key: str
    stored: Any
    computed: Any

    def sentence(self, path: Path) -> str:
        """What is wrong in which file, and what to do."""
        return (
            f"{path}: {self.key} is {self.stored}, but what the file stores with it gives {self.computed}: restore the "
            "file, or run 'sail-bench rescore' where its store is"
        )


def edited_numbers(folder: Path) -> list[str]:
    """A sentence for each number in the result files of a folder that does not follow from what is stored with it.

    Args:
        folder: ``results/<recipe>/<budget>``.
    """
    return [
        mismatch.sentence(path)
        for path in sorted(folder.glob("*/seed-*.json"))
        for mismatch in mismatches(read_result(path))
    ]


def mismatches(result: RunResult) -> list[Mismatch]:
    """Numbers of a result that do not follow from its columns, protocols, ledger or trials."""
    wrong = [m for benchmark in result.benchmarks for m in _of_benchmark(benchmark)]
    if result.status != "ok" or result.learning_rate is None:
        return wrong
    rates = [trial.learning_rate for trial in result.trials]
    if rates and result.learning_rate not in rates:
        wrong.append(Mismatch("learning_rate", result.learning_rate, f"one of {rates}"))
    if result.ledger:
        free = bool(result.budget.get("free_data"))
        spent = Ledger.load(result.ledger).spent(result.budget["axis"], free_data=free)
        overshoot = round(spent - result.budget["limit"], 3)
        if not _same(result.overshoot, overshoot):
            wrong.append(Mismatch("overshoot", result.overshoot, overshoot))
    return wrong


def _of_benchmark(result: BenchmarkResult) -> Iterator[Mismatch]:
    key = f"benchmarks.{result.benchmark}"
    if digest(result.protocol) != result.protocol_hash:
        yield Mismatch(f"{key}.protocol_hash", result.protocol_hash, digest(result.protocol))
    for metric in result.metrics:
        yield from _of_metric(f"{key}.metrics.{metric.name}", metric, result)


def _of_metric(key: str, metric: Metric, result: BenchmarkResult) -> Iterator[Mismatch]:
    """Fields of a metric against its columns.

    Args:
        key: of the metric in the file.
        metric: as stored.
        result: the benchmark's, which holds the columns.
    """
    kind, group, column = metric.estimator.kind, metric.estimator.group, metric.estimator.column
    if kind not in ESTIMATORS or column not in {"", *result.items.get(group, {})} or group not in result.items:
        yield Mismatch(f"{key}.estimator", f"{kind} of {group}.{column}", "nothing: no such estimator or column")
        return
    computed = evaluate(metric, result.items)
    yield from differing_fields(key, metric, computed)
    invalid = sum(result.invalid.get(metric.name, {}).values())
    if metric.name in result.invalid and invalid != computed.n_total - computed.n_valid:
        yield Mismatch(f"{key.replace('.metrics.', '.invalid.')}", invalid, computed.n_total - computed.n_valid)


def differing_fields(key: str, stored: Metric, computed: Metric) -> Iterator[Mismatch]:
    """Fields of a metric that differ from those computed.

    Args:
        key: of the metric in its file.
        stored: as the file has it.
        computed: from what is stored with it.
    """
    for name in COMPUTED:
        value, right = getattr(stored, name), getattr(computed, name)
        if not _same(value, right):
            yield Mismatch(f"{key}.{name}", value, right)


def _same(stored: float | None, computed: float | None) -> bool:
    if stored is None or computed is None:
        return stored is computed
    return isclose(stored, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
