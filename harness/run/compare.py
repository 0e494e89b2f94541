"""``compare``: run what is open, one process a run, and rewrite the reports after each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import Problem, Problems, UserError, error_of, errors_of
from harness.recipe.recipe import Recipe
from harness.report.kept_page import KeptPage
from harness.report.text import format_number
from harness.run.cluster import cluster_of, open_pool
from harness.run.devices import refuse_launcher
from harness.run.job import FIRST, Job
from harness.run.plan import RunPlan, make_runs, resolved
from harness.run.pool import Pool
from harness.run.preflight import Preflight, preflight
from harness.run.progress import FAILED, Display, Work, about
from harness.run.publish import check_folder, publish, publish_failure, set_aside
from harness.run.schedule import Part, Schedule
from harness.run.target import ThisMachine
from harness.run.trackers.kinds import check_installed
from harness.run.trackers.tracking import Tracking, tracking
from harness.score.results import LOCAL, RunResult, read_results
from harness.store.notices import listening
from harness.store.settings import Settings, settings, using
from harness.store.stages import Store
from harness.store.storage import check_writable, remove_partial_files
from harness.store.tensor_cache import HIDDEN_STATES


@dataclass(frozen=True)
class CompareOptions:
    """A comparison as the command line states it; None means what the recipe says. ``preflight``: whether everything is
    looked at before any work. ``faults``: what is wrong with the recipe's names and options, in a sentence each.
    ``cluster``: where the runs work (:func:`harness.run.cluster.cluster_of`), this machine if None.
    ``keep``: puts a recipe that the command line made beside the results, and reads it from there."""

    recipe: Recipe
    budget: str | None = None
    methods: Sequence[str] | None = None
    seeds: int | None = None
    benchmarks: Sequence[str] | None = None
    results: Path = LOCAL
    store: Path = Path(".sail-bench")
    workers: str = "auto"
    cluster: str | None = None
    report_to: Sequence[str] | None = None
    preflight: bool = True
    faults: Sequence[str] = ()
    keep: Callable[[], Recipe] | None = None

    @property
    def trackers(self) -> list[str]:
        """Names of the trackers to report to."""
        return list(self.recipe.report_to if self.report_to is None else self.report_to)

    def runs(self) -> list[RunPlan]:
        """The runs, seed by seed.

        Raises:
            UserError: all that is wrong with the recipe.
        """
        recipe, problems, runs = self.recipe, Problems(), list[RunPlan]()
        with problems.of("recipe"):
            runs = make_runs(
                recipe,
                self.budget or recipe.budget,
                list(self.methods or recipe.methods),
                self.seeds or recipe.seeds,
                list(self.benchmarks or recipe.benchmarks),
                Store(self.store),
            )
        problems.add(Problem("recipe", fault.rstrip(".")) for fault in self.faults)
        problems.check()
        return runs

    def look(self) -> Preflight:
        """The runs, and what stands in their way."""
        problems = Problems()
        looked = preflight(self.recipe, list(self.benchmarks or self.recipe.benchmarks), self.runs)
        problems.add(looked.problems)
        with problems.of("report_to"):
            check_installed(self.trackers)
        return Preflight(looked.plans, tuple(problems.all))

    @property
    def page(self) -> KeptPage:
        """The page of the comparison."""
        folder = self.results / self.recipe.name / (self.budget or self.recipe.budget)
        return KeptPage(folder, self.store / "pages")


def compare(options: CompareOptions, display: Display | None = None, *, quiet: bool = False) -> list[str]:
    """Run the comparison; the same call again resumes.

    Args:
        options: what is compared.
        display: shows progress; one of its own if None.
        quiet: whether its own leaves progress out.

    Returns:
        one sentence for each run that failed; empty if all finished.
    """
    refuse_launcher(os.environ, "compare")
    cluster = cluster_of(options.cluster)
    plans = _plans(options)
    machine = ThisMachine(plans)
    pool = open_pool(cluster, options.workers, plans[0].comparison, machine)
    check_writable(options.results, "--results")
    check_writable(options.store, "--store", ("", "locks", "logs", "pages", "stages", "work"))
    if options.keep is not None:  # nothing speaks against the comparison any more
        options = replace(options, recipe=options.keep(), keep=None)
        plans = options.runs()
    with Store(options.store).in_use():
        for folder in (options.store, options.store / "pages", options.store / HIDDEN_STATES):
            remove_partial_files(folder)
        remove_partial_files(options.page.folder, deep=True)
        # the verdicts against the reference method's answers come once these are there
        total = len(plans) + sum(plan.rival is not None and bool(plan.todo) for plan in plans)
        seconds = machine.seconds(pool.count) if cluster is None else None
        shown = display or Display(total, predicted=seconds, quiet=quiet)
        return _compare(options, plans, machine, pool, shown, seconds)


def _plans(options: CompareOptions) -> list[RunPlan]:
    """The runs, nothing of which is known to stand in their way.

    Raises:
        UserError: something does.
    """
    if not options.preflight:
        check_installed(options.trackers)
        return options.runs()
    plans, problems = options.look()
    if problems:
        raise error_of(problems)
    return plans


def _compare(
    options: CompareOptions,
    plans: list[RunPlan],
    machine: ThisMachine,
    pool: Pool,
    display: Display,
    seconds: float | None,
) -> list[str]:
    """As :func:`compare`, with the store in use; ``seconds`` is what all is predicted to take."""
    aside = set_aside(plans, options.results)
    check_folder(plans, options.results)
    page = options.page
    shared = replace(settings(), workers=pool.sharing, curves=bool(options.trackers))
    if options.cluster is None:  # what this command found of the Hub counts for its runs; another host may reach it
        shared = replace(shared, offline=shared.offline or Settings.of(os.environ).offline)
    with (
        display as shown,
        using(shared),
        tracking(options.trackers, options.store / "trackers", shown.say) as tracked,
        pool,
        listening(shown.say),
    ):
        shown.note(_opening(plans, pool.count, seconds))
        if aside is not None:
            shown.say(f"The results in {page.folder} are of an earlier version of SAIL-bench: they are now in {aside}")
        if options.cluster is None and (warning := machine.warning(pool.count)):
            shown.say(f"This may not fit: {warning}")
        short = seconds is not None and seconds < SHORT_S and machine.tells_all(pool.count)
        schedule = Schedule(plans, split=pool.count > 1, short=short)
        _Driver(schedule, pool, shown, options.results, page, tracked).drive()
        if tracked:
            tracked.table(plans[0].comparison, read_results(page.folder))
    rows = [(plans[place], reason) for place, reason in sorted(schedule.failed.items())]
    return [f"{plan.name} seed {plan.seed}: {reason}" for plan, reason in rows]


def _opening(plans: Sequence[RunPlan], workers: int, seconds: float | None) -> str:
    """The first line: what there is to do, and how long it is predicted to take.

    Args:
        plans: all runs.
        workers: runs side by side.
        seconds: predicted; None if that is not known.
    """
    comparison, done = plans[0].comparison, sum(not plan.todo for plan in plans)
    parts = [f"{len(plans)} runs" if len(plans) > 1 else "1 run"]
    parts += [f"{done} done before"] if done else []
    if done < len(plans):
        parts += [f"{workers} side by side"] if workers > 1 else []
        parts.append("how long is not known" if seconds is None else f"predicted to take {about(seconds)}")
    return f"{comparison.recipe.name}, budget {comparison.budget.name}: {', '.join(parts)}"


SHORT_S = 60.0
"""Predicted seconds of a comparison up to which nobody needs an early look at its scores."""

PAGE_SHARE = 0.05
"""Of the time of a comparison that goes into its page at most, while runs are at work."""


class _Driver:
    """Hands parts of runs to a pool and publishes what is over. Only it writes results.

    Args:
        schedule: what can begin.
        pool: works on it.
        shown: shows progress.
        results: folder of the results.
        page: of the comparison.
        tracked: reports to trackers, if there are any.
    """

    def __init__(
        self,
        schedule: Schedule,
        pool: Pool,
        shown: Display,
        results: Path,
        page: KeptPage,
        tracked: Tracking | None = None,
    ) -> None:
        self._schedule, self._pool, self._shown = schedule, pool, shown
        self._results, self._page, self._tracked = results, page, tracked or Tracking()
        self._active: dict[int, tuple[Part, Work]] = {}
        self._page_open, self._next_page = False, 0.0
        self._halfway: set[int] = set()
        self._checked = False

    def drive(self) -> None:
        """Work until nothing is left.

        Raises:
            UserError: a run met an error that would meet every run.
        """
        try:
            self._drive()
        except KeyboardInterrupt:
            with suppress(Exception):  # it may have cut off the import of what draws; the next command writes the page
                self._write_last_page()
            raise
        except BaseException:
            self._write_last_page()
            raise
        self._write_last_page()

    def _write_last_page(self) -> None:
        """Write what is still open of the page, whatever is at work."""
        self._active.clear()
        self._write_page()

    def _drive(self) -> None:
        if any(plan.todo for plan in self._schedule.plans):
            self._pool.prepare()
            self._page.prepare()  # in the meantime
        self._begin()
        self._write_page()
        for happening in self._pool.events():
            number = happening.ticket.number
            part, work = self._active[number]
            kind, value = happening.event
            for text in self._tracked.notices():
                self._shown.say(text)
            if not happening.last:
                self._note(part, work, kind, value)
                continue
            if kind == "user error":
                raise errors_of(value)
            del self._active[number]
            log = Path(happening.ticket.job.log).name
            self._over(part, work, None if kind == "done" else f"{value} (log: {log})")
            self._begin()  # before the page, so that no worker waits for it
            self._write_page()

    def _note(self, part: Part, work: Work, kind: str, value: Any) -> None:
        """Show progress, pass on a row of a training log, or note that the comparison is checked."""
        if kind == "checked":
            self._checked = True
        elif kind == "logged":
            self._tracked.logged(part.plan, value)
        else:
            work.show(kind, value)

    def _begin(self) -> None:
        """Begin parts as long as there is room; a run with nothing left to do needs none."""
        while self._pool.room and (part := self._schedule.next()):
            plan = part.plan
            name = f"{plan.name} seed {plan.seed}"
            if part.against:
                name += f" against {plan.comparison.recipe.reference}"
            if part.whole and not part.todo:
                self._already_done(part, name)
                continue
            work = self._shown.begin(name)
            job = Job.of(plan, part.name, checked=self._checked)
            ticket = self._pool.submit(job)
            self._active[ticket.number] = (part, work)

    def _already_done(self, part: Part, name: str) -> None:
        """Publish a run that was over before."""
        reason = None
        for place in self._schedule.over(part, None):
            plan = resolved(self._schedule.plans[place])
            result, reason = self._published(place, plan)
            if result is not None:
                self._tracked.finished(plan, result)
        self._shown.skip(name, "already done" if reason is None else f"{FAILED}: {reason}")
        self._page_open = True

    def _published(self, place: int, plan: RunPlan) -> tuple[RunResult | None, str | None]:
        """Publish a run that is over: its result, or why what its benchmarks made of their rows is none.

        Args:
            place: of the run in the schedule.
            plan: as it is now.
        """
        try:
            return publish(plan, self._results), None
        except UserError as error:
            reason = "; ".join(error.sentences)
            self._schedule.failed[place] = reason
            publish_failure(plan, self._results, reason)
            self._tracked.failed(plan)
            return None, reason

    def _over(self, part: Part, work: Work, reason: str | None) -> None:
        """Publish what is over with a part.

        Args:
            part: that is over.
            work: as it is shown.
            reason: why it failed, or None.
        """
        places, text = self._schedule.over(part, reason), ""
        if part.whole and self._schedule.open_runs:  # nothing else depends on whether the run can be published
            self._begin()
        is_first = part.name == FIRST and reason is None
        for place in places:
            plan = resolved(self._schedule.plans[place])
            if reason is None:
                result, reason = self._published(place, plan)
                text = _first_score(result) + _open_calls(plan) if result else ""
                if result and not is_first:
                    self._tracked.finished(plan, result)
            else:
                publish_failure(plan, self._results, reason)
                self._tracked.failed(plan)
        is_first = is_first and reason is None
        halves = [0.5 if place in self._halfway else 1.0 for place in places]
        ended, share = (0, 0.5) if is_first else (len(places), sum(halves))
        if is_first:
            self._halfway.update(places)
        work.finished(text if reason is None else f"{FAILED}: {reason}", ended, share)
        self._page_open = self._page_open or bool(places)

    def _write_page(self) -> None:
        """Write the leaderboard anew if there are new results, but take no more than a share of the time for it: a run
        at work could need the core. When all is over it is written at any rate, of a short comparison only then."""
        begun = time.monotonic()
        if self._page_open and (not self._active or (begun >= self._next_page and not self._schedule.short)):
            self._page.write()
            self._page_open = False
            self._next_page = begun + (time.monotonic() - begun) / PAGE_SHARE


def _first_score(result: RunResult) -> str:
    """The first primary value of a run with its interval, for the terminal."""
    shown = (m for b in result.benchmarks for m in b.metrics if m.primary and m.value is not None)
    metric = next(shown, None)
    if metric is None or metric.low is None or metric.high is None:
        return "no valid score"
    value, low, high = (format_number(v, metric.unit) for v in (metric.value, metric.low, metric.high))
    return f"{metric.title} {value} ({low} to {high})"


def _open_calls(plan: RunPlan) -> str:
    """What the judge left open, if anything."""
    counts = ", ".join(f"{count} of {name}{_fault(plan, name)}" for name, count in plan.unanswered.items())
    return f"; calls without an answer of the judge: {counts}; the same command asks them again" if counts else ""


def _fault(plan: RunPlan, benchmark: str) -> str:
    """Why the last of a benchmark's open calls got no answer, in brackets."""
    manifest = plan.comparison.store.manifest(plan.evaluations[benchmark].judgments.stage)
    return f" ({manifest['fault']})" if manifest.get("fault") else ""
