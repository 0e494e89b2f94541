"""``sail-bench compare`` and ``sail-bench plan``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from harness.cli.options import compare_options, comparison_options


@click.command()
@comparison_options
@click.option(
    "--workers",
    metavar="N",
    default="auto",
    show_default=True,
    help="Runs side by side: auto is one a GPU, and one on a CPU.",
)
def compare(**options: Any) -> None:
    """Train and evaluate the methods of RECIPE (a built-in name or a YAML file) under one budget."""
    from harness.run.compare import compare as run

    chosen = compare_options(options)
    problems = run(chosen)
    page = chosen.results / chosen.recipe.name / (chosen.budget or chosen.recipe.budget) / "LEADERBOARD.md"
    if page.is_file():
        from rich.console import Console

        from harness.report.terminal import print_scores

        print_scores(page.parent, Console(width=None if sys.stdout.isatty() else 140))
        click.echo(f"Leaderboard: {page}")
    if problems:
        click.echo("Failed runs:\n" + "\n".join(f"- {p}" for p in problems), err=True)
        sys.exit(1)


@click.command()
@comparison_options
def plan(**options: Any) -> None:
    """What `compare` would run, what is already there, and the predicted spending of the rest."""
    from harness.budget.calibration import Calibration
    from harness.run.spending import pairs_spending, predicted_spending, spent_by
    from harness.store.environment import environment

    chosen = compare_options(options)
    runs = chosen.runs()
    comparison = runs[0].comparison
    click.echo(f"{chosen.recipe.name}: {len(runs)} runs, budget {comparison.budget.name}, store {chosen.store}")
    calibration = Calibration(chosen.store, environment())
    totals: dict[str, float] = dict(pairs_spending(comparison))
    if totals:
        click.echo(f"  preference pairs: open ({_spending(totals)} at most)")
    for run in runs:
        todo = [label for label in run.todo if label not in ("start", "pairs")]
        ahead = predicted_spending(run, calibration) if todo else {}
        for name, amount in ahead.items():
            totals[name] = totals.get(name, 0) + amount
        click.echo(f"  {run.name} seed {run.seed}: " + (f"open: {', '.join(todo)}" if todo else "done"))
        if ahead:
            click.echo(f"    predicted: {_spending(ahead)}")
        spent = spent_by(run)
        if spent:
            pairs = [
                f"{_amount(axis, spent.predicted[axis])} -> {_amount(axis, amount)}"
                for axis, amount in spent.actual.items()
                if axis in spent.predicted
            ]
            click.echo(f"    predicted -> spent: {', '.join(pairs)}")
    click.echo(f"Predicted for what is open: {_spending(totals) or 'nothing'}")
    if any(run.todo for run in runs) and "seconds" not in totals:
        click.echo("Seconds are predicted once a run in this store has shown the speed of this machine.")


def _amount(axis: str, value: float) -> str:
    name = axis.replace("_", " ")
    return f"{value:.3g} {name}" if axis == "flops" or value < 10 else f"{value:,.0f} {name}"


def _spending(amounts: Mapping[str, float]) -> str:
    return ", ".join(_amount(axis, amount) for axis, amount in amounts.items())
