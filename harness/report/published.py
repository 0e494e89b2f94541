"""Published SAIL numbers, and ours beside them only where model, benchmark, its version and the judge are the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict

from harness.report.board import Board
from harness.score.bootstrap import Interval
from harness.score.results import BenchmarkResult, RunResult


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedScore(_Strict):
    """A published score.

    Attributes:
        source: where it stands; what: in words.
        method, model, benchmark, metric: what it is of, by the names used here; unit: of ``value``.
        judge: the model that judged; ``none`` if the benchmark asks no judge; None if the source does not say.
        version: of the benchmark, as the label of a result; None if the source does not say.
    """

    source: str
    what: str
    method: str
    value: float
    unit: str
    model: str
    benchmark: str
    metric: str
    judge: str | None
    version: str | None


class Claim(_Strict):
    """A published statement that is no score of one method on one benchmark."""

    source: str
    what: str


class Published(_Strict):
    """All of it; ``sources`` by name."""

    sources: dict[str, str]
    scores: tuple[PublishedScore, ...]
    claims: tuple[Claim, ...]


class Beside(NamedTuple):
    """A published score with ours, from the results in ``folder``; ``reason`` says why there is none where ``ours`` is
    None."""

    published: PublishedScore
    ours: Interval | None
    reason: str
    folder: str = ""


@cache
def published() -> Published:
    """The published numbers that this project knows of."""
    text = resources.files("harness.report").joinpath("published.yaml").read_text(encoding="utf-8")
    return Published.model_validate(yaml.safe_load(text))


def beside_published(boards: Mapping[str, Board]) -> list[Beside]:
    """Every published score with ours, from the first board that has it under the same protocol.

    Args:
        boards: of all comparisons that may hold it, by their folders.
    """
    return [_beside(score, boards) for score in published().scores]


def _beside(score: PublishedScore, boards: Mapping[str, Board]) -> Beside:
    if score.version is None:
        return Beside(score, None, "the source does not say which version or protocol of the benchmark")
    if score.judge is None:
        return Beside(score, None, "the source names no judge")
    reasons = []
    for folder, board in boards.items():
        for run in board.runs_of(score.method):
            result = run.benchmark(score.benchmark)
            reasons.append(_mismatch(score, run, result))
            if result is None or reasons[-1].text:
                continue
            column = next(
                c
                for c in board.columns(benchmark=score.benchmark)
                if c.protocol_hash == result.protocol_hash and c.metric.name == score.metric
            )
            cell = board.cell(score.method, column)
            if cell is not None and cell.interval.has_value:
                return Beside(score, cell.interval, "", folder)
    nearest = max(reasons, default=_Mismatch(0, f"no run of {score.method} here"))
    return Beside(score, None, nearest.text or "our run has no value")


class _Mismatch(NamedTuple):
    """How far a run agrees, and in what it does not; no text if it does."""

    agreed: int
    text: str


def _mismatch(score: PublishedScore, run: RunResult, result: BenchmarkResult | None) -> _Mismatch:
    """What keeps a run from standing beside a published score.

    Args:
        score: the published one.
        run: of the same method.
        result: the run's scores of the same benchmark, if it has any.
    """
    model = str(run.start.get("hub", run.start.get("model", ""))).partition("@")[0]
    if model != score.model:
        return _Mismatch(1, f"ours starts from {model}, not {score.model}")
    if result is None:
        return _Mismatch(2, f"ours was not measured on {score.benchmark}")
    if result.label != score.version:
        return _Mismatch(3, f"ours is of {result.label or 'another set'}, not of the {score.version}")
    judge = str(result.judge.get("model", "")) if result.judge else "none"
    if judge != score.judge:
        return _Mismatch(4, f"ours is judged by {judge}, not by {score.judge}")
    if not any(metric.name == score.metric for metric in result.metrics):
        return _Mismatch(5, f"ours has no {score.metric}")
    return _Mismatch(6, "")
