"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import UserError
from harness.store.settings import settings, using

if TYPE_CHECKING:
    from harness.run.compare import CompareOptions


def _names(text: str | None) -> list[str] | None:
    """Names of a comma separated list; None if none was given."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _methods(text: str | None) -> list[str] | None:
    """Names of methods; ``all`` stands for every installed one that imports."""
    names = _names(text)
    if names != ["all"]:
        return names
    from harness.run.plugins import plugins

    importable = []
    for name, plugin in plugins("methods").items():
        try:
            plugin.load()
            importable.append(name)
        except UserError as error:
            click.echo(f"left out: {error}", err=True)
    return importable


workers_option = click.option(
    "--workers",
    metavar="N",
    default="auto",
    show_default=True,
    envvar="SAIL_BENCH_WORKERS",
    show_envvar=True,
    help="Runs side by side: auto is one a GPU, or one a core of a CPU (4 at most, and as many as fit into memory).",
)


report_to_option = click.option(
    "--report-to",
    metavar="A,B",
    help="Trackers that get curves, scores and the final table, instead of the recipe's report_to: trackio, wandb, "
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


def use_settings(data_dir: Path | None, **changes: Any) -> None:
    """Put the data folder and other settings in force for this command and the processes that it starts."""
    if data_dir is not None:
        if not data_dir.is_dir():
            raise UserError(f"--data-dir {data_dir} is no folder: give one that exists")
        changes["data_dir"] = str(data_dir.resolve())
    click.get_current_context().with_resource(using(replace(settings(), **changes)))


def compare_options(options: dict[str, Any]) -> CompareOptions:
    """The comparison that :func:`comparison_options` state; its settings are in force from now on."""
    from harness.recipe.load import load_recipe
    from harness.run.compare import CompareOptions

    use_settings(options["data_dir"])
    trackers = _trackers(options.get("report_to"))
    return CompareOptions(
        recipe=load_recipe(options["recipe"]),
        budget=options["budget"],
        methods=_methods(options["methods"]),
        seeds=options["seeds"],
        benchmarks=_names(options["benchmarks"]),
        results=options["results"],
        store=options["store"],
        workers=options.get("workers", "auto"),
        report_to=trackers,
    )
