"""``compare``: run what is open, one process a run, and rewrite the reports after each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.run.make_runs import make_runs
from harness.run.plan import RunPlan
from harness.run.process import Job, main
from harness.run.progress import Display
from harness.run.publish import check_folder, publish, publish_failure
from harness.store.stages import Store

TOO_LONG = "too long"


@dataclass(frozen=True)
class Request:
    """A comparison as the command line states it; None means what the recipe says."""

    recipe: Recipe
    budget: str | None = None
    methods: Sequence[str] | None = None
    seeds: int | None = None
    benchmarks: Sequence[str] | None = None
    results: Path = Path("results")
    store: Path = Path(".sail-bench")

    def runs(self) -> list[RunPlan]:
        """The runs, seed by seed."""
        recipe = self.recipe
        return make_runs(
            recipe,
            self.budget or recipe.budget,
            list(self.methods or recipe.methods),
            self.seeds or recipe.seeds,
            list(self.benchmarks or recipe.benchmarks),
            Store(self.store),
        )


def check_writable(folder: Path, flag: str) -> None:
    """Fail before any work if a folder could not be written.

    Raises:
        UserError: names the folder and the flag.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be written ({error.strerror}): choose another with {flag}"
        ) from None


def compare(request: Request, display: Display | None = None) -> list[str]:
    """Run the comparison; the same call again resumes.

    Returns:
        one sentence for each run that failed; empty if all finished.
    """
    from harness.report.leaderboard import write_leaderboard

    runs = request.runs()
    check_writable(request.results, "--results")
    check_writable(request.store, "--store")
    check_folder(runs, request.results)
    folder = request.results / request.recipe.name / runs[0].budget.name
    problems = []
    late = [plan for plan in runs if plan.rival]  # compared with the reference method's answers once these are there
    with display or Display(len(runs) + len(late)) as shown:
        failed = []
        for place, plan in enumerate([*runs, *late]):
            if place >= len(runs) and (plan in failed or not plan.open_versus()):
                continue
            name = f"{plan.name} seed {plan.seed}"
            todo = plan.open_stages()
            shown.run(name, todo or ["done before"])
            reason = _run(request, plan, shown) if todo else None
            if reason is None:
                publish(plan, request.results)
                shown.finished(("done" if todo else "already done") + _open_calls(plan))
            else:
                failed.append(plan)
                problems.append(f"{name}: {reason}")
                publish_failure(plan, request.results, reason)
                shown.finished(f"FAILED: {reason}")
            write_leaderboard(folder)
    return problems


def _open_calls(plan: RunPlan) -> str:
    """What the judge left open, if anything."""
    open_ = {b.name: count for b in plan.benchmarks if b.name in plan.wanted and (count := plan.unanswered(b))}
    told = ", ".join(f"{count} of {name}" for name, count in open_.items())
    return f"; calls without an answer of the judge: {told} (the same command asks them again)" if open_ else ""


def _run(request: Request, plan: RunPlan, shown: Display) -> str | None:
    """Run one process to its end; why it failed, or None."""
    context = _processes()
    receiver, sender = context.Pipe(duplex=False)
    name = f"{plan.recipe.name}-{plan.budget.name}-{plan.name}-seed-{plan.seed}"
    job = Job(
        recipe=plan.recipe,
        budget=plan.budget.name,
        method=plan.name,
        seed=plan.seed,
        benchmarks=tuple(plan.wanted),
        store=request.store.resolve(),
        log=(request.store / "logs" / f"{name}.log").resolve(),
    )
    process = context.Process(target=main, args=(job, sender), name=name)
    process.start()
    sender.close()
    try:
        outcome = _listen(receiver, shown, plan.recipe.time_limit)
        if outcome == TOO_LONG:
            process.kill()
            outcome = f"it worked longer than the recipe's time_limit of {plan.recipe.time_limit:g} minutes"
        process.join()
    except BaseException:
        process.kill()
        process.join()
        raise
    if outcome is not None:
        return None if outcome == "" else f"{outcome} (log: {job.log.name})"
    code = process.exitcode or 0
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the process ended without a result ({how}; out of memory?) (log: {job.log.name})"


def _listen(receiver: Any, shown: Display, minutes: float | None) -> str | None:
    """Forward events until the run ends: "" if it finished, a reason if it failed, None if it just vanished."""
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    with contextlib.suppress(EOFError):
        while True:
            if deadline is not None and not receiver.poll(max(0.0, deadline - time.monotonic())):
                return TOO_LONG
            kind, value = receiver.recv()
            if kind == "stage":
                shown.stage(*value)
            elif kind == "advance":
                shown.advance(value)
            elif kind == "at":
                shown.at(value)
            elif kind == "user error":
                raise UserError(value)
            else:
                return "" if kind == "done" else str(value)
    return None


def _processes() -> Any:
    """A fork server that has the heavy libraries imported, so that each run starts quickly; spawn elsewhere."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # a run that is ended by Ctrl-C leaves a semaphore behind; the tracker frees it and need not talk about it
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.run.preload"])
    return context
