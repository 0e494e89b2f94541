"""``sail-bench leaderboard`` and ``sail-bench rescore``: pages and scores from what is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from harness.cli.options import use_settings


@click.command()
@click.argument("recipe", required=False)
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option(
    "--check", is_flag=True, help="Fail if a page differs from its results, or a number in those from its items."
)
def leaderboard(recipe: str | None, results: Path, check: bool) -> None:
    """Rewrite the leaderboards of RECIPE (all if none is named) from the result files alone."""
    from harness.recipe.load import load_recipe
    from harness.report.leaderboard import stale_files, write_leaderboard
    from harness.score.recheck import edited_numbers
    from harness.score.results import result_folders

    if recipe and recipe.endswith((".yaml", ".yml")):
        recipe = load_recipe(recipe).name
    folders = result_folders(results, recipe)
    bad, edited = [], []
    for folder in folders:
        if check:
            bad += [str(folder / name) for name in stale_files(folder)]
            edited += edited_numbers(folder)
        else:
            write_leaderboard(folder)
            click.echo(f"wrote {folder / 'LEADERBOARD.md'}")
    if bad:
        click.echo("These files differ from their results:\n" + "\n".join(bad), err=True)
    for sentence in edited:
        click.echo(f"{sentence}.", err=True)
    if bad or edited:
        sys.exit(1)
    if check:
        click.echo(f"{len(folders)} leaderboard(s) up to date")


@click.command()
@click.argument("recipe", required=False)
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--store", type=click.Path(path_type=Path), default=Path(".sail-bench"), show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Official data, to find judgments of official sets.")
def rescore(recipe: str | None, results: Path, store: Path, data_dir: Path | None) -> None:
    """Compute the scores of RECIPE (all if none is named) again from what is stored: no model, no judge."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # data that are not here are not fetched for it
    from harness.run.rescore import rescore as run

    use_settings(data_dir, offline=True)
    changed = run(recipe, results, store, click.echo)
    click.echo(f"{changed} result file(s) changed; leaderboards rewritten")
