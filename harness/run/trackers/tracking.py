"""What of a comparison goes to which run of its trackers.

A run of a tracker is a training, or a row and seed of the comparison: ``RECIPE/BUDGET/METHOD/seed-K`` has the training
log and all scores, ``.../seed-0/trial-POINT`` the training log of one trial where a search has several, and
``RECIPE/BUDGET/leaderboard`` the final table.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.recipe.search import Point
from harness.run.comparison import Comparison
from harness.run.nodes import Node
from harness.run.plan import RunPlan, train_node
from harness.run.trackers.messages import Logged, LoggedRow, Message, Over, Row, Table, Tables, TrackedRun
from harness.run.trackers.process import TrackerProcess
from harness.score.results import RunResult
from harness.store.json_files import read_json

PATIENCE_S = 60.0
"""How long the end of a comparison waits for its trackers."""
INTERRUPTED_S = 10.0
"""The same where the user ended it."""

_UNFIT = re.compile(r"[^A-Za-z0-9._=+-]+")


class Tracking:
    """Reports a comparison to trackers; to none, nothing.

    Args:
        trackers: their processes.
    """

    def __init__(self, trackers: Sequence[TrackerProcess] = ()) -> None:
        self._trackers = tuple(trackers)
        self._trainings: dict[tuple[str, str, int], TrackedRun] = {}

    def __bool__(self) -> bool:
        return bool(self._trackers)

    def logged(self, plan: RunPlan, value: LoggedRow) -> None:
        """A row of a training log.

        Args:
            plan: of the run that trains.
            value: the row.
        """
        if self._trackers:
            self._send(Logged(self._training(plan, Point(**value.point), value.seed), value.number, [value.row]))

    def finished(self, plan: RunPlan, result: RunResult) -> None:
        """A run is over: whatever a tracker does not have of its trainings yet, and its scores.

        Args:
            plan: of the run, as the store has it now.
            result: of the run.
        """
        if not self._trackers:
            return
        if plan.seed == 0 and len(plan.trials) > 1:
            for trial in plan.trials:
                rows = _log(plan, trial.train)
                self._send(Over(self._training(plan, trial.point, 0), rows or (), complete=rows is not None))
        point, policy = plan.winner.point, plan.policy
        rows = _log(plan, policy) if point and policy else None
        key = policy.key if point and policy else plan.comparison.key
        self._send(Over(_tracked(plan, point, plan.seed, key), rows or (), scores_of(result)))

    def failed(self, plan: RunPlan) -> None:
        """A run has failed; what trackers have of its trainings stays."""
        for (name, _, seed), run in self._trainings.items():
            if (name, seed) == (plan.name, plan.seed):
                self._send(Over(run, complete=False))

    def table(self, comparison: Comparison, results: Sequence[RunResult]) -> None:
        """The table of the comparison, with its verdict.

        Args:
            comparison: whose results they are.
            results: all of its page.
        """
        if self._trackers and results:
            name = f"{comparison.recipe.name}/{comparison.budget.name}/leaderboard"
            run = TrackedRun(comparison.recipe.name, name, comparison.key, comparison.budget.name)
            self._send(Tables(run, tables_of(results)))

    def notices(self) -> list[str]:
        """What there is to tell the user now."""
        return [text for tracker in self._trackers if (text := tracker.notice())]

    def close(self, patience: float) -> list[str]:
        """Let the trackers finish.

        Args:
            patience: seconds to wait for them at most, all together.

        Returns:
            what there is to tell the user.
        """
        deadline = time.monotonic() + patience
        for tracker in self._trackers:
            tracker.finish()
        return [text for t in self._trackers if (text := t.close(max(0.0, deadline - time.monotonic())))]

    def _send(self, message: Message) -> None:
        for tracker in self._trackers:
            tracker.send(message)

    def _training(self, plan: RunPlan, point: Point, seed: int) -> TrackedRun:
        """The run that shows a training: of a trial where the search has several, else of the row and seed."""
        name = (plan.name, str(point), seed)
        if name not in self._trainings:
            trial = seed == 0 and len(plan.trials) > 1
            self._trainings[name] = _tracked(plan, point, seed, train_node(plan, point, seed).key, trial=trial)
        return self._trainings[name]


@contextmanager
def tracking(names: Sequence[str], records: Path, say: Callable[[str], None]) -> Iterator[Tracking]:
    """Report to trackers until the context ends.

    Args:
        names: of the trackers; without any nothing is started or imported.
        records: folder of the records of what was sent.
        say: shows a line to the user.

    Raises:
        UserError: a tracker cannot be used here.
    """
    trackers: list[TrackerProcess] = []
    try:
        trackers += [TrackerProcess(name, records) for name in names]
        for tracker in trackers:
            tracker.wait_ready()
    except BaseException:
        for tracker in trackers:
            tracker.kill()
        raise
    reported, patience = Tracking(trackers), INTERRUPTED_S
    try:
        yield reported
        patience = PATIENCE_S
    finally:
        for text in reported.close(patience):
            say(text)


def _tracked(plan: RunPlan, point: Point | None, seed: int, key: str, *, trial: bool = False) -> TrackedRun:
    recipe, budget = plan.comparison.recipe, plan.comparison.budget
    group = f"{budget.name}/{plan.name}"
    suffix = f"/trial-{_UNFIT.sub('_', str(point))}" if trial else ""
    settings = {"recipe": recipe.name, "budget": budget.name, "method": plan.name, "seed": seed, "trial": trial}
    rate = {"learning_rate": point.learning_rate, **point.options} if point else {}
    return TrackedRun(recipe.name, f"{recipe.name}/{group}/seed-{seed}{suffix}", key, group, rate | settings)


def _log(plan: RunPlan, training: Node) -> list[Row] | None:
    """The whole log of a training; None if it is not in the store."""
    store = plan.comparison.store
    if not store.done(training.stage):
        return None
    rows: list[Row] = read_json(store.path(training.stage) / "log.json")
    return rows


def scores_of(result: RunResult) -> dict[str, float]:
    """All values of a result, by names that trackers group under ``eval``."""
    metrics = [(b.benchmark, m) for b in result.benchmarks for m in b.metrics]
    return {f"eval/{name}/{metric.name}": metric.value for name, metric in metrics if metric.value is not None}


def tables_of(results: Sequence[RunResult]) -> dict[str, Table]:
    """The first table of the page, with its intervals and costs in columns of their own, and the verdict's sentences.

    Args:
        results: of a page, at least one.
    """
    from harness.report.board import Board
    from harness.report.ranking import ranking_of
    from harness.report.summary import plain_sentences, summary_json, summary_of

    board = Board(results)
    ranking = ranking_of(board)
    summary = summary_of(board, ranking)
    content = summary_json(board, ranking, summary)
    titles = [f"{column['title']} ({column['unit']})" for column in content["columns"]]
    columns = ["method", "seeds"]
    for title in titles:
        columns += [title, f"{title} low", f"{title} high", f"{title} against {content['reference']}"]
    costs = ("hours", "flops", "labels", "kl")
    lines = []
    for row in content["rows"]:
        scores = [score.get(part) for score in row["scores"] for part in ("value", "low", "high", "verdict")]
        lines.append([row["method"], row["seeds"], *scores, *(row[cost] for cost in costs), row["error"]])
    verdict = [[text] for text in plain_sentences(summary)]
    return {"leaderboard": Table([*columns, *costs, "error"], lines), "verdict": Table(["sentence"], verdict)}
