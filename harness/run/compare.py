"""``compare``: run what is open, one process a run, and rewrite the reports after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.run.plan import RunPlan, make_runs, resolved
from harness.run.process import run_in_process
from harness.run.progress import Display
from harness.run.publish import check_folder, publish, publish_failure, set_aside
from harness.store.stages import Store


@dataclass(frozen=True)
class CompareOptions:
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


def compare(options: CompareOptions, display: Display | None = None) -> list[str]:
    """Run the comparison; the same call again resumes.

    Returns:
        one sentence for each run that failed; empty if all finished.
    """
    from harness.report.leaderboard import write_leaderboard

    plans = options.runs()
    check_writable(options.results, "--results")
    check_writable(options.store, "--store")
    aside = set_aside(plans, options.results)
    check_folder(plans, options.results)
    folder = options.results / options.recipe.name / plans[0].comparison.budget.name
    # compared with the reference method's answers once these are there
    compared = [plan for plan in plans if plan.rival]
    failures: dict[tuple[str, int], str] = {}
    with display or Display(len(plans) + len(compared)) as shown:
        if aside is not None:
            shown.say(f"The results in {folder} are of an earlier version of SAIL-bench: they are now in {aside}")
        for place, planned in enumerate([*plans, *compared]):
            plan = resolved(planned)
            row = (plan.name, plan.seed)
            if place >= len(plans) and (row in failures or not plan.open_versus):
                continue
            reason = _run(plan, options.results, shown)
            if reason is not None:
                failures[row] = reason
            write_leaderboard(folder)
    return [f"{name} seed {seed}: {reason}" for (name, seed), reason in failures.items()]


def _run(plan: RunPlan, results: Path, display: Display) -> str | None:
    """Work through what is open of a run and publish it; why it failed, or None."""
    todo = plan.todo
    display.run(f"{plan.name} seed {plan.seed}", todo or ["done before"])
    reason = run_in_process(plan, display) if todo else None
    if reason is None:
        plan = resolved(plan) if todo else plan
        publish(plan, results)
        display.finished(("done" if todo else "already done") + _open_calls(plan))
    else:
        publish_failure(resolved(plan), results, reason)
        display.finished(f"FAILED: {reason}")
    return reason


def _open_calls(plan: RunPlan) -> str:
    """What the judge left open, if anything."""
    counts = ", ".join(f"{count} of {name}{_fault(plan, name)}" for name, count in plan.unanswered.items())
    return f"; calls without an answer of the judge: {counts}; the same command asks them again" if counts else ""


def _fault(plan: RunPlan, benchmark: str) -> str:
    """Why the last of a benchmark's open calls got no answer, in brackets."""
    manifest = plan.comparison.store.manifest(plan.evaluations[benchmark].judgments.stage)
    return f" ({manifest['fault']})" if manifest.get("fault") else ""
