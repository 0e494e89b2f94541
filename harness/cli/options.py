"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.cli.quick import quick_options, recipe_named
from harness.cli.terminal import say
from harness.errors import UserError, errors_of
from harness.store.settings import settings, using

if TYPE_CHECKING:
    from harness.run.compare import CompareOptions

MOST_SEEDS = 1000
"""As :data:`harness.recipe.recipe.MOST_SEEDS`, whose module takes long to import."""


def names_of(flag: str, text: str | None) -> list[str] | None:
    """Names of a comma separated list; None if the flag was not given."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"{flag} names nothing: give names with commas between them, or leave it out")
    return names


def _joined(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """A list that was given in several parts, as one; None if it was not given."""
    return ",".join(values) if values else None


Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


def list_option(flag: str, text: str) -> Callable[[Decorated], Decorated]:
    """An option that takes names with commas between them, and may be repeated.

    Args:
        flag: its name.
        text: its help.
    """
    return click.option(flag, metavar="A,B", multiple=True, callback=_joined, help=text)


def _methods(text: str | None) -> list[str] | None:
    """Names of methods; ``all`` stands for every installed one that imports."""
    names = names_of("--methods", text)
    if names != ["all"]:
        return names
    from harness.run.plugins import plugins

    importable = []
    for name, plugin in plugins("methods").items():
        problems = plugin.ready()
        for problem in problems:
            say(f"left out: {problem.text}", err=True)
        importable += [] if problems else [name]
    return importable


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress: only notices, failures and the result.")

workers_option = click.option(
    "--workers",
    metavar="N",
    default="auto",
    show_default=True,
    envvar="SAIL_BENCH_WORKERS",
    show_envvar=True,
    help="Runs side by side: auto is one a GPU, or one a core of a CPU (4 at most, and as many as fit into memory). "
    "More than there are GPUs share them, which pays for small models.",
)


cluster_option = click.option(
    "--cluster",
    metavar="WHERE",
    help="Where the runs work, if not on this machine: ray, ray:ADDRESS (a Ray cluster), or jobs:FOLDER (files for "
    "`sail-bench run-job`, started by any scheduler); all machines share the store (docs/clusters.md).",
)

preflight_option = click.option(
    "--no-preflight",
    "preflight",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Do not look first whether model, data, keys, endpoints and packages are there.",
)


results_option = click.option(
    "--results",
    type=click.Path(path_type=Path),
    show_default="results, results/studies and results/local",
    help="The folder of results to read.",
)
"""Of commands that read results. None stands for all that :func:`harness.score.results.results_read` names."""


def recipe_name(recipe: str | None) -> str | None:
    """The name of a recipe that is given by name or as a file."""
    from harness.recipe.load import load_recipe

    return load_recipe(recipe).name if recipe and recipe.endswith((".yaml", ".yml")) else recipe


report_to_option = list_option(
    "--report-to",
    "Trackers that get curves, scores and the final table, instead of the recipe's report_to: trackio, wandb, "
    "tensorboard; none for no tracker.",
)


def _trackers(text: str | None) -> list[str] | None:
    """Names of the trackers; None if none was given."""
    from harness.recipe.trackers import tracker_names

    try:
        return None if text is None else tracker_names(text)
    except ValueError as error:
        raise UserError(f"--report-to: {error}") from None


def comparison_options(command: Any) -> Any:
    """The argument and options of commands about a comparison."""
    for option in reversed(
        [
            click.argument("recipe", required=False),
            click.option("--budget", metavar="NAME", help="One of the recipe's budgets."),
            list_option("--methods", "Methods to compare, instead of the recipe's; `all` for every installed one."),
            click.option("--seeds", type=click.IntRange(1, MOST_SEEDS), metavar="N", help="Run seeds 0..N-1."),
            list_option("--benchmarks", "Benchmarks to run, instead of the recipe's."),
            click.option(
                "--results",
                type=click.Path(path_type=Path),
                show_default="results/local, which git ignores; power also reads results and results/studies",
                help="Folder of results and their page, DIR/RECIPE/BUDGET.",
            ),
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
    return quick_options(command)


def use_settings(data_dir: Path | None, **changes: Any) -> None:
    """Put the data folder and other settings in force for this command and the processes that it starts."""
    if data_dir is not None:
        if not data_dir.is_dir():
            raise UserError(f"--data-dir {data_dir} is no folder: give one that exists")
        changes["data_dir"] = str(data_dir.resolve())
    click.get_current_context().with_resource(using(replace(settings(), **changes)))


def _check_budget(name: str | None) -> None:
    """Refuse what is no name of a budget."""
    if name == "":
        raise UserError("--budget is empty: name a budget (sail-bench budgets lists them), or leave it out")
    if name and "," in name:
        raise UserError(f"--budget {name} names several: run the command once for each budget")


def compare_options(options: dict[str, Any]) -> CompareOptions:
    """The comparison that :func:`comparison_options` state; its settings are in force from now on.

    What of the recipe has no effect is noted on the standard error.

    Raises:
        UserError: all that is wrong with the recipe, its names and these options.
    """
    from harness.recipe.load import read_recipe
    from harness.run.compare import CompareOptions
    from harness.run.recipe_check import Findings, Wanted, check_recipe
    from harness.score.results import LOCAL

    use_settings(options["data_dir"])
    trackers = _trackers(options.get("report_to"))
    _check_budget(options["budget"])
    wanted = Wanted(
        _methods(options["methods"]), names_of("--benchmarks", options["benchmarks"]), options["budget"] or None
    )
    named = recipe_named(options)
    reading = read_recipe(named) if isinstance(named, str) else named.read()
    findings = Findings([], []) if reading.recipe is None else check_recipe(reading.recipe, wanted, reading.where)
    later = options.get("preflight", False)  # it reports them together with what else stands in the way
    if reading.recipe is None or reading.faults or (findings.faults and not later):
        raise errors_of([*reading.faults, *findings.faults])
    for note in findings.notes:
        say(f"Note: {note}.", err=True)
    return CompareOptions(
        recipe=reading.recipe,
        budget=wanted.budget,
        methods=wanted.methods,
        seeds=options["seeds"],
        benchmarks=wanted.benchmarks,
        results=options["results"] or LOCAL,
        store=options["store"],
        workers=options.get("workers", "auto"),
        cluster=options.get("cluster"),
        faults=tuple(findings.faults),
        report_to=trackers,
        preflight=options.get("preflight", True),
        keep=None if isinstance(named, str) else named.keep,
    )
