"""What differs between two sets of results: values, items whose verdict flipped, settings, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.errors import UserError
from harness.score.bootstrap import Interval, interval_over_seeds, replicates
from harness.score.columns import Array, prompts_with_value
from harness.score.pairing import Pair, Side, paired_metrics
from harness.score.results import BenchmarkResult, Metric, RunResult, read_result, read_results
from harness.score.verdicts import Verdict, holm, verdict_on

Rows = Mapping[str, Sequence[RunResult]]

SHARED = ("recipe", "recipe_hash", "reference", "budget", "start", "data", "oracles")
OF_ROW = ("method", "variant_of", "method_origin", "method_options", "learning_rate")


class Flips(NamedTuple):
    """Items whose verdict changed: ``gained`` by the second, ``lost`` by it, by id; how many are the ``same``; and the
    two-sided p of McNemar's exact test that gains and losses are equally likely."""

    gained: tuple[object, ...]
    lost: tuple[object, ...]
    same: int
    p: float


@dataclass(frozen=True)
class MetricDiff:
    """One metric of a row.

    Attributes:
        benchmark: its name; title, unit, better: of the metric.
        first, second: value with interval on either side; None where it was not measured.
        difference: second minus first, paired; None where items cannot be paired, and ``reason`` says why.
        p: of the difference after Holm's correction over all differences; verdict: on it.
        flips: items whose verdict changed.
        seeds: that were paired.
    """

    benchmark: str
    title: str
    unit: str
    better: int
    first: Interval | None
    second: Interval | None
    difference: Interval | None = None
    reason: str = ""
    p: float = float("nan")
    verdict: Verdict = Verdict.NO_DIFFERENCE
    flips: Flips | None = None
    seeds: tuple[int, ...] = ()


class Setting(NamedTuple):
    """Something that differs: its ``key``, and what it is on either side (None where it is not there)."""

    key: str
    first: Any
    second: Any


class RowDiff(NamedTuple):
    """A row of the first results and the row of the second that it is compared with."""

    first: str
    second: str
    metrics: list[MetricDiff]


class ResultDiff(NamedTuple):
    """All that differs.

    Attributes:
        rows: compared.
        only_first: rows that the second lacks; only_second: that the first lacks.
        settings: that differ, versions of the code and environment left out; versions: of both.
    """

    rows: list[RowDiff]
    only_first: list[str]
    only_second: list[str]
    settings: list[Setting]
    versions: list[Setting]

    @property
    def shown(self) -> bool:
        """Whether any difference is shown."""
        return any(m.verdict != Verdict.NO_DIFFERENCE for row in self.rows for m in row.metrics)

    @property
    def paired(self) -> bool:
        """Whether anything could be compared item by item."""
        return any(m.difference is not None for row in self.rows for m in row.metrics)


def read_rows_at(path: Path) -> dict[str, list[RunResult]]:
    """The finished runs at a path, by row: of a comparison's folder, of a row's, or of one result file.

    Raises:
        UserError: there are none.
    """
    if path.is_file():
        runs = [read_result(path)]
    elif any(path.glob("seed-*.json")):
        runs = [read_result(p) for p in sorted(path.glob("seed-*.json"))]
    else:
        runs = read_results(path)
    rows: dict[str, list[RunResult]] = {}
    for run in runs:
        if run.status == "ok":
            rows.setdefault(run.method, []).append(run)
    if not rows:
        raise UserError(
            f"{path} holds no finished results: give a folder results/RECIPE/BUDGET, a row's folder in it, or a "
            "seed-N.json"
        )
    return rows


def compare_results(first: Rows, second: Rows, *, primary: bool | None = True) -> ResultDiff:
    """All that differs between two sets of results.

    Rows are compared by name; where both sides have one row, these two are. Runs are paired by seed; where both have
    one, these two are. Items are paired where benchmark, protocol and judge are the same.

    Args:
        first: runs by row.
        second: runs by row.
        primary: only metrics that are primary, or only those that are not; all if it is None.

    Raises:
        UserError: no row is on both sides.
    """
    names = [(name, name) for name in first if name in second]
    if len(first) == len(second) == 1:
        names = [(next(iter(first)), next(iter(second)))]
    if not names:
        raise UserError(
            f"The two results have no row in common ({', '.join(first)} / {', '.join(second)}): give two rows' folders "
            "to compare one with another"
        )
    rows = [RowDiff(a, b, _metrics(first[a], second[b], primary)) for a, b in names]
    rows = _with_verdicts(rows)
    settings, versions = _settings([(first[a][0], second[b][0]) for a, b in names])
    matched_a, matched_b = {a for a, _ in names}, {b for _, b in names}
    return ResultDiff(
        rows, [n for n in first if n not in matched_a], [n for n in second if n not in matched_b], settings, versions
    )


def _metrics(first: Sequence[RunResult], second: Sequence[RunResult], primary: bool | None) -> list[MetricDiff]:
    """Every metric that either row has."""
    if len(first) == len(second) == 1:
        second = [second[0].model_copy(update={"seed": first[0].seed})]
    pairs = {(p.benchmark, p.metric.name): p for p in paired_metrics(second, first, primary=primary)}
    out: dict[tuple[str, str], MetricDiff] = {}
    for run in (first[0], second[0]):
        for result in run.benchmarks:
            for metric in result.metrics:
                key = (result.benchmark, metric.name)
                if key not in out and (primary is None or metric.primary == primary):
                    out[key] = _metric(result, metric, pairs.get(key), first, second)
    return list(out.values())


def _metric(
    result: BenchmarkResult, metric: Metric, pair: Pair | None, first: Sequence[RunResult], second: Sequence[RunResult]
) -> MetricDiff:
    """One metric of two rows.

    Args:
        result: a benchmark that has it.
        metric: the metric.
        pair: the second row and the first on the same items, if they can be paired.
        first: runs of a row.
        second: runs of the row that it is compared with.
    """
    before, after = (_alone(runs, result.benchmark, metric.name) for runs in (first, second))
    title = f"{metric.title} ({result.label})" if result.label else metric.title
    diff = MetricDiff(result.benchmark, title, metric.unit, metric.better, before, after)
    if pair is None:
        return replace(diff, reason=_why_not_paired(first[0], second[0], result.benchmark, (before, after)))
    return replace(diff, difference=pair.interval(), flips=_flips(pair), seeds=pair.seeds)


def _alone(runs: Sequence[RunResult], benchmark: str, name: str) -> Interval | None:
    """A row's value with its interval over items and seeds; None where it was not measured."""
    estimates, prompts = [], []
    for run in runs:
        result = run.benchmark(benchmark)
        metric = next((m for m in result.metrics if m.name == name), None) if result else None
        if result is not None and metric is not None:
            columns, column = result.items[metric.estimator.group], metric.estimator.column
            estimates.append(replicates(metric.estimator.kind, columns, column))
            prompts.append(prompts_with_value(columns, column))
    if not estimates:
        return None
    values, samples = np.array([e.value for e in estimates]), np.stack([e.samples for e in estimates])
    return interval_over_seeds(values, samples, min(prompts))


def _why_not_paired(first: RunResult, second: RunResult, benchmark: str, sides: Sequence[Interval | None]) -> str:
    """Why items cannot be paired.

    Args:
        first: a run.
        second: a run of the row that it is compared with.
        benchmark: its name.
        sides: the values; None where there is none.
    """
    if None in sides:
        return f"not measured in the {'first' if sides[0] is None else 'second'}"
    a, b = first.benchmark(benchmark), second.benchmark(benchmark)
    if a is None or b is None:
        return "not measured with the same seed"
    if a.judge != b.judge:
        return "the judges differ"
    if a.protocol_hash != b.protocol_hash:
        keys = [key for key, _, _ in _differing("", a.protocol, b.protocol)]
        return f"the protocols differ ({', '.join(keys)})"
    return "the items or the seeds differ"


def _flips(pair: Pair) -> Flips | None:
    """Items whose verdict changed from the pair's second side to its first; None where neither direction is better.

    A verdict is right or wrong; won, tied or lost; otherwise the value itself; of several seeds the mean over them.
    """
    if not pair.metric.better:
        return None
    before, after = (_verdicts(side).mean(0) for side in (pair.second, pair.first))
    change = pair.metric.better * np.sign(np.where(np.isclose(after, before), 0.0, after - before))
    gained, lost = (tuple(pair.ids[i] for i in np.flatnonzero(change == way)) for way in (1, -1))
    return Flips(gained, lost, int((change == 0).sum()), mcnemar(len(gained), len(lost)))


def _verdicts(side: Side) -> Array:
    """Verdict of each item, (K, n); NaN where there is none."""
    column = side.metric.estimator.column
    values = np.stack([np.array([_number(v) for v in columns[column]]) for columns in side.columns])
    return np.sign(values - 0.5) if side.metric.unit.startswith("win") else values


def _number(value: Any) -> float:
    numbers = [v for v in (value if isinstance(value, list) else [value]) if v is not None]
    return sum(map(float, numbers)) / len(numbers) if numbers else float("nan")


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of McNemar's exact test: of the items that changed, either way is equally likely."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5))) if gained + lost else 1.0


def _with_verdicts(rows: Sequence[RowDiff]) -> list[RowDiff]:
    """With Holm's correction over every paired difference of which one direction is better."""
    tested = [m for row in rows for m in row.metrics if m.difference is not None and m.difference.has_value]
    adjusted = dict(zip(map(id, tested), holm([m.difference.p for m in tested if m.difference]), strict=True))
    return [
        row._replace(
            metrics=[
                replace(m, p=adjusted[id(m)], verdict=verdict_on(m.difference, m.better, adjusted[id(m)]))
                if id(m) in adjusted and m.difference is not None
                else m
                for m in row.metrics
            ]
        )
        for row in rows
    ]


def _settings(pairs: Sequence[tuple[RunResult, RunResult]]) -> tuple[list[Setting], list[Setting]]:
    """Settings and versions that differ, those of all rows once and those of each row under its name."""
    a, b = pairs[0]
    settings = [d for key in SHARED for d in _differing(key, getattr(a, key), getattr(b, key))]
    for x, y in pairs:
        name = x.method if x.method == y.method else f"{x.method} / {y.method}"
        settings += [d for key in OF_ROW for d in _differing(f"{name}: {key}", getattr(x, key), getattr(y, key))]
        settings += _differing(f"{name}: trials", len(x.trials), len(y.trials))
    for result in a.benchmarks:
        other = b.benchmark(result.benchmark)
        if other is not None:
            settings += _differing(result.benchmark, result.protocol, other.protocol)
            settings += _differing(f"{result.benchmark}: judge", result.judge, other.judge)
            settings += _differing(f"{result.benchmark}: answered by", result.snapshots, other.snapshots)
    versions = [*_differing("versions", a.versions, b.versions), *_differing("", a.environment, b.environment)]
    return list(dict.fromkeys(map(_hashable, settings))), versions


def _hashable(setting: Setting) -> Setting:
    """With lists as text, so that settings of several rows can be counted once."""
    return Setting(setting.key, *(v if isinstance(v, str | int | float | None) else str(v) for v in setting[1:]))


def _differing(key: str, first: Any, second: Any) -> Iterator[Setting]:
    """The leaves in which two JSON values differ, each under its dotted key."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted({*first, *second}):
            yield from _differing(f"{key}.{name}".lstrip("."), first.get(name), second.get(name))
    elif first != second:
        yield Setting(key, first, second)
