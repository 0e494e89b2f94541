"""The first table of a page as typed rows: headline scores, marks, costs, KL; ranked, with the controls apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.board import Board, Cell, Column
from harness.report.spent import TimeUnit, mean_spent, unit_of_time
from harness.report.trust import certificates_of
from harness.score.results import RunResult
from harness.score.tuning_certificate import TuningCertificate
from harness.score.verdicts import Verdict
from harness.store.versions import raised_since

CONTROLS = ("start", "longer", "dpo-shuffled-labels")
"""Methods that show what a score is worth without learning, length alone, or labels that say nothing."""

HEADLINES = 4
"""How many benchmarks stand in the first table at most."""


@dataclass(frozen=True)
class Costs:
    """What one run of a method spent, the mean over its seeds: the training and the stored pairs that it used.

    ``hours``: of the device. ``flops`` is None where none were counted. ``labels``: calls of the oracle.
    """

    hours: float
    flops: float | None
    labels: float


@dataclass(frozen=True)
class Score:
    """A row's score in a headline column. ``cell`` is None where ``missing`` says why; ``verdict`` is that on the
    difference to the reference, None where there is none to compare with."""

    cell: Cell | None
    verdict: Verdict | None
    missing: str = ""


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        method: its name.
        scores: in the headline columns.
        costs: None for a method that was not trained, or of which no run has finished.
        kl: to the start policy; None where it was not measured.
        seeds: how many runs have finished; ``failed``: how many have not; ``error``: why the first of them has not.
        tuning: the certificate of its search; None for a method that was not trained.
        is_stale: whether an earlier version of the code made any of its runs.
    """

    method: str
    scores: tuple[Score, ...]
    costs: Costs | None
    kl: Cell | None
    seeds: int
    failed: int
    error: str
    tuning: TuningCertificate | None
    is_stale: bool


@dataclass(frozen=True)
class Ranking:
    """The headline columns, and the rows: ``methods`` from the best to the worst in the first column, those that failed
    last; ``controls`` likewise."""

    columns: tuple[Column, ...]
    methods: tuple[Row, ...]
    controls: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows in the order of the table."""
        return self.methods + self.controls


def time_of(ranking: Ranking) -> TimeUnit:
    """The unit in which a table gives the time of a run."""
    return unit_of_time(3600 * max((row.costs.hours for row in ranking.rows if row.costs), default=0.0))


def headline_columns(board: Board) -> list[Column]:
    """The first primary metric with a better direction of each of the first benchmarks; not of ``curve``, which holds
    the reward of ``preference`` once more."""
    columns: dict[str, list[Column]] = {}
    for column in board.columns(primary=True):
        if column.metric.better and column.benchmark != "curve":
            same_metric = columns.setdefault(column.benchmark, [])
            if not same_metric or same_metric[0].metric.name == column.metric.name:
                same_metric.append(column)
    most = [
        max(same, key=lambda c: sum(board.cell(m, c) is not None for m in board.methods)) for same in columns.values()
    ]
    return most[:HEADLINES]


def is_control(run: RunResult) -> bool:
    """Whether a row is a control: by its method, or since nothing was trained for it."""
    named = (run.variant_of or run.method) in CONTROLS
    return named or (run.status == "ok" and not is_trained(run))


def is_trained(run: RunResult) -> bool:
    """Whether a run trained a policy."""
    return run.learning_rate is not None or bool(run.ledger.get("phases", {}).get("train"))


def ranking_of(board: Board) -> Ranking:
    """The rows of a board."""
    columns = headline_columns(board)
    families = [board.comparisons_with(board.reference, column) for column in columns]
    kl = next((c for c in board.columns(benchmark="preference") if c.metric.name == "kl"), None)
    certificates = certificates_of(board)
    methods: list[Row] = []
    controls: list[Row] = []
    for method in dict.fromkeys([*board.methods, *(r.method for r in board.results)]):
        runs = [r for r in board.results if r.method == method]
        finished, broken = board.runs_of(method), [r for r in runs if r.status != "ok"]
        scores = []
        for column, family in zip(columns, families, strict=True):
            cell = board.cell(method, column)
            verdict = family[method].verdict if method in family else None
            scores.append(Score(cell, verdict, "" if cell else _missing(board, method, column)))
        costs = costs_of(finished) if finished and any(map(is_trained, finished)) and method != "start" else None
        row = Row(
            method=method,
            scores=tuple(scores),
            costs=costs,
            kl=board.cell(method, kl) if kl else None,
            seeds=len(finished),
            failed=len(broken),
            error=next((r.error for r in broken), ""),
            tuning=certificates.get(method),
            is_stale=any(raised_since(r.versions) for r in runs),
        )
        (controls if is_control((finished or runs)[0]) else methods).append(row)
    return Ranking(tuple(columns), _ranked(methods, columns), _ranked(controls, columns))


def _missing(board: Board, method: str, column: Column) -> str:
    """Why a row has no value in a column."""
    runs = board.runs_of(method)
    if not runs:
        return "failed"
    title = next((b.title for r in board.finished for b in r.benchmarks if b.benchmark == column.benchmark), "")
    if any(title in r.pending for r in runs):
        return "not measured yet"
    others = [b for r in runs for b in r.benchmarks if b.benchmark == column.benchmark]
    older = {(c.benchmark, c.protocol_hash) for c in board.older_columns()}
    if any((b.benchmark, b.protocol_hash) in older for b in others):
        return "stale"
    return "another protocol" if others else "not measured"


def _ranked(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """From the best to the worst in the first column; rows without a value last, by name."""

    def place(row: Row) -> tuple[bool, float, str]:
        cell = row.scores[0].cell if row.scores else None
        if cell is None or not cell.interval.has_value:
            return True, 0.0 if row.seeds else 1.0, row.method
        return False, round(-columns[0].metric.better * cell.interval.value, 9), row.method

    return tuple(sorted(rows, key=place))


def costs_of(runs: Sequence[RunResult]) -> Costs:
    """What one of some runs spent, on average."""
    seconds, flops, labels = (mean_spent(runs, axis) for axis in ("seconds", "flops", "oracle_calls"))
    return Costs(seconds / 3600, flops or None, labels)
