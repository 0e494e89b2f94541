"""Columns of a table: a metric under one protocol, and which protocols a newer one has replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.score.results import Metric, RunResult
from harness.store.versions import raised_since

ColumnKey = tuple[str, str, str]


@dataclass(frozen=True)
class Column:
    """A metric under one protocol: two protocol hashes never share a column.

    ``version``: of the benchmark, as its protocol states it; None where it states none. ``mark``: the beginning of the
    protocol's hash, where another column has the same name; else "".
    """

    benchmark: str
    protocol_hash: str
    label: str
    metric: Metric
    version: int | None = None
    mark: str = ""

    @property
    def key(self) -> ColumnKey:
        """Benchmark, protocol hash and metric: what identifies a column."""
        return self.benchmark, self.protocol_hash, self.metric.name

    @property
    def title(self) -> str:
        """Heading, with the label of a reduced set."""
        label = ", ".join(part for part in (self.label, self.mark) if part)
        return f"{self.metric.title} ({label})" if label else self.metric.title

    @property
    def heading(self) -> str:
        """Title with the benchmark's version, and the unit."""
        parts = (self.label, "" if self.version is None else f"v{self.version}", self.mark)
        inside = ", ".join(part for part in parts if part)
        return f"{self.metric.title} ({inside}), {self.metric.unit}" if inside else f"{self.title}, {self.metric.unit}"


class Columns(NamedTuple):
    """The columns that are shown, and those of older protocols, each in the order in which the runs list them."""

    shown: tuple[Column, ...]
    older: tuple[Column, ...]


_NO_VALUE: dict[str, object] = {"value": None, "low": None, "high": None, "mdd": None, "n_valid": 0, "n_total": 0}


def columns_of(runs: Sequence[RunResult]) -> Columns:
    """All columns of finished runs.

    Of two protocols of a benchmark the newer one is that of rows that the present version of the code made, then that
    with the higher version. Protocols that are equally new, say of two judges, have a column each.
    """
    columns: dict[ColumnKey, Column] = {}
    ages: dict[tuple[str, str], tuple[bool, int]] = {}
    for run in runs:
        current = not raised_since(run.versions)
        for b in run.benchmarks:
            stated = b.protocol.get("version")
            version = stated if isinstance(stated, int) else None
            age, protocol = (current, version or 0), (b.benchmark, b.protocol_hash)
            ages[protocol] = max(age, ages.get(protocol, age))
            for m in b.metrics:
                if (*protocol, m.name) not in columns:
                    metric = m.model_copy(update=_NO_VALUE)
                    columns[*protocol, m.name] = Column(b.benchmark, b.protocol_hash, b.label, metric, version)
    newest: dict[tuple[str, str], tuple[bool, int]] = {}
    for benchmark, protocol_hash, name in columns:
        age = ages[benchmark, protocol_hash]
        newest[benchmark, name] = max(age, newest.get((benchmark, name), age))
    shown: list[Column] = []
    older: list[Column] = []
    for column in columns.values():
        is_newest = ages[column.benchmark, column.protocol_hash] == newest[column.benchmark, column.metric.name]
        (shown if is_newest else older).append(column)
    names = Counter((c.benchmark, c.heading) for c in shown)
    marked = [replace(c, mark=c.protocol_hash[:6]) if names[c.benchmark, c.heading] > 1 else c for c in shown]
    return Columns(tuple(marked), tuple(older))
