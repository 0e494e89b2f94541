"""``sail-bench plan``: what is open, and what it will need on a stated machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import compare_options, comparison_options, preflight_option, workers_option
from harness.cli.terminal import say
from harness.errors import Problem, Problems, UserError, error_of

if TYPE_CHECKING:
    from harness.budget.calibration import Calibration
    from harness.budget.machines import Machine
    from harness.run.compare import CompareOptions
    from harness.run.estimate import Estimate
    from harness.run.outline import Outline
    from harness.run.plan import RunPlan
    from harness.run.preflight import Preflight

GIB = 2**30
WIDTH = 13


@click.command()
@comparison_options
@click.option(
    "--machine",
    metavar="NAME",
    default="this",
    show_default=True,
    help="Where it would run: a device such as h100, with xN for N of them (h100x8); cpu; or this machine.",
)
@workers_option
@preflight_option
@click.option("--price-hour", type=click.FloatRange(min=0), metavar="X", help="Price of one device for an hour.")
def plan(machine: str, price_hour: float | None, **options: Any) -> None:
    """What `compare` of RECIPE would run, what is already there, and what the rest needs: hours, memory, disk, money.

    The model's config.json is enough; no weights are read. What would stop `compare` on this machine is listed last,
    with exit code 2. For another machine, what is not on this one does not count.
    """
    from harness.run.estimate import estimate
    from harness.run.outline import crowded_engines, fits_memory
    from harness.run.target import model_config, target_machine, target_workers

    chosen = compare_options(options)
    target, here = target_machine(machine), machine == "this"
    runs, problems = _look(chosen, here)
    facts = runs[0].comparison if runs else None
    config = model_config(chosen.recipe, facts.store.path(facts.facts.start.stage) if facts else None)
    outline = _outline(chosen, runs, problems, config.config, target)
    if not runs:
        missing = [] if here else [f"- {problem.text}" for problem in problems if problem.absent]
        where = "that are listed below" if here else "that are not on this machine:"
        say("\n".join([f"The runs are not listed, and typical texts stand for data {where}", *missing]))
    if config.reason:
        say(f"Hours and memory are left out: {config.reason}")
    stopping = [problem for problem in problems if here or not problem.absent]
    if outline.rows:
        fits = partial(fits_memory, outline, target)
        workers = target_workers(target, chosen.workers, outline.budget.axis, fits, chosen.recipe.train.processes)
        predicted = estimate(outline, target, workers, price_hour)
        _show(predicted, outline)
        crowded = crowded_engines(chosen.recipe, target, workers)
        shortage = Problem("memory", predicted.shortage) if predicted.shortage else None
        stopping += [problem for problem in (crowded, shortage) if problem]
    if stopping:
        raise error_of(stopping)


def _look(chosen: CompareOptions, here: bool) -> Preflight:
    """The runs of a comparison, and what stands in their way.

    Args:
        chosen: the comparison.
        here: whether it would run on this machine, whose keys, packages and endpoints then count.
    """
    from harness.run.preflight import Preflight

    if here and chosen.preflight:
        return chosen.look()
    problems = Problems()
    runs: list[RunPlan] = []
    with problems.of("recipe"):
        runs = chosen.runs()
    return Preflight(runs, tuple(problems.all))


def _outline(
    chosen: CompareOptions,
    runs: Sequence[RunPlan],
    problems: Sequence[Problem],
    config: dict[str, Any] | None,
    target: Machine,
) -> Outline:
    """What is open, the runs listed where they are known.

    Args:
        chosen: the comparison.
        runs: of it; empty where they cannot be made.
        problems: that stand in their way.
        config: the model's ``config.json``.
        target: where it would run.

    Raises:
        UserError: all problems, where they leave nothing to be predicted.
    """
    from harness.budget.calibration import Calibration
    from harness.run.outline import outline_of_plans, outline_of_recipe
    from harness.store.environment import environment

    calibration, recipe = Calibration(chosen.store, environment()), chosen.recipe
    if runs:
        setting = runs[0].comparison.setting
        outline = outline_of_plans(runs, config, lambda name: calibration.corrections(setting, name))
        _list_runs(chosen, runs, calibration if target.here else None, outline, target)
        return outline
    if not any(problem.absent for problem in problems):
        raise error_of(problems)
    try:
        return outline_of_recipe(
            recipe,
            chosen.budget or recipe.budget,
            list(chosen.methods or recipe.methods),
            chosen.seeds or recipe.seeds,
            list(chosen.benchmarks or recipe.benchmarks),
            config,
        )
    except UserError:
        raise error_of(problems) from None


def _list_runs(
    chosen: CompareOptions, runs: Sequence[RunPlan], calibration: Calibration | None, outline: Outline, target: Machine
) -> None:
    """Print the runs, with what they will spend on the axes of budgets, or have spent."""
    from harness.run.fitting import model_size
    from harness.run.spending import pairs_spending, predicted_spending, spent_by

    comparison = runs[0].comparison
    size = None if outline.config is None else model_size(outline.config, chosen.recipe.train.lora)
    shape = size.shape if size else None
    count = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    say(f"{chosen.recipe.name}: {count}, budget {comparison.budget.name}, store {chosen.store}")
    totals: dict[str, float] = dict(pairs_spending(comparison))
    if totals:
        say(f"  preference pairs: open ({_spending(totals)} at most)")
    for run in runs:
        todo = [label for label in run.todo if label not in ("start", "pairs")]
        ahead = predicted_spending(run, calibration, shape, outline.prior(target)) if todo else {}
        for name, amount in ahead.items():
            totals[name] = totals.get(name, 0) + amount
        say(f"  {run.name} seed {run.seed}: " + (f"open: {', '.join(todo)}" if todo else "done"))
        if ahead:
            say(f"    predicted: {_spending(ahead)}")
        spent = spent_by(run)
        if spent:
            pairs = [
                f"{_amount(axis, spent.predicted[axis])} -> {_amount(axis, amount)}"
                for axis, amount in spent.actual.items()
                if axis in spent.predicted
            ]
            say(f"    predicted -> spent: {', '.join(pairs)}")
    say(f"Predicted for what is open: {_spending(totals) or 'nothing'}")


def _amount(axis: str, value: float) -> str:
    from harness.report.text import power_text

    name = axis.replace("_", " ")
    return f"{power_text(value)} {name}" if axis == "flops" or value < 10 else f"{value:,.0f} {name}"


def _spending(amounts: Mapping[str, float]) -> str:
    return ", ".join(_amount(axis, amount) for axis, amount in amounts.items())


def _show(predicted: Estimate, outline: Outline) -> None:
    """Print the table and its assumptions."""
    from harness.run.assumptions import assumptions

    workers = f"{predicted.workers} worker{'s' if predicted.workers > 1 else ''}"
    say(f"\nOn {predicted.machine.name}, {workers}:")
    for name, text in _lines(predicted):
        say(f"  {name:<{WIDTH}}{text}")
    say("\nAssumed: " + "; ".join(assumptions(predicted, outline)) + ".")
    if predicted.unsaid:
        say("Left out: " + "; ".join(predicted.unsaid) + ".")


def _lines(predicted: Estimate) -> list[tuple[str, str]]:
    """Name and text of each line of the table."""
    lines = []
    if predicted.wall is not None:
        spent = {name: seconds / 3600 for name, seconds in predicted.seconds.items() if seconds}
        head = f"{_hours(predicted.wall / 3600)} wall, {_hours(sum(spent.values()))} of devices"
        lines.append(("hours", _with_parts(head, {name: _hours(hours) for name, hours in spent.items()})))
    else:
        lines.append(("hours", "not known"))
    if predicted.peaks:
        peak = predicted.peaks[0]
        head = f"{peak.total / GIB:.2f} of {predicted.usable / GIB:.1f} GiB a run, at its peak ({peak.moment})"
        parts = {name: f"{amount / GIB:.2f}" for name, amount in peak.parts.items() if amount >= GIB / 200}
        lines.append(("memory", _with_parts(head, parts)))
    else:
        lines.append(("memory", "not known"))
    disk = predicted.disk
    if disk:
        sizes = {name: f"{amount / 1e9:.3g}" for name, amount in disk.items()}
        lines.append(("disk", _with_parts(f"{sum(disk.values()) / 1e9:.3g} GB", sizes)))
    for purpose, name in (("judge", "judge calls"), ("oracle", "label calls")):
        if calls := predicted.calls.get(purpose):
            lines.append((name, f"{calls:,.0f} at most"))
    money = predicted.money
    if money.parts:
        amounts = {name: f"{amount:,.2f}" for name, amount in money.parts.items()}
        lines.append(("money", _with_parts(f"{money.currency} {sum(money.parts.values()):,.2f}", amounts)))
    if money.unpriced:
        lines.append(("money" if not money.parts else "", f"without a price: {', '.join(money.unpriced)}"))
    return lines


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _with_parts(head: str, parts: Mapping[str, str]) -> str:
    return head + (": " + ", ".join(f"{name} {value}" for name, value in parts.items()) if len(parts) > 1 else "")
