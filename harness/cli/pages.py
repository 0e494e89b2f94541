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
    "--update",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A Markdown file whose sections between <!-- sail-bench:RECIPE/BUDGET --> and <!-- /sail-bench --> are made "
    "anew as well. Can be given several times.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Change nothing; fail if a leaderboard, or a marked section (of README.md beside the results, too), differs "
    "from what the results give.",
)
def leaderboard(recipe: str | None, results: Path, files: tuple[Path, ...], check: bool) -> None:
    """Rewrite the leaderboards of RECIPE (all if none is named) from the result files alone."""
    from harness.recipe.load import load_recipe
    from harness.report.leaderboard import stale_files, write_leaderboard
    from harness.report.marked_sections import has_sections, update_sections, with_sections
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
    readme = results.resolve().parent / "README.md"
    for file in files:
        if check:
            continue
        changed = update_sections(file, results)
        click.echo(f"{'updated' if changed else 'left as it is:'} {file}")
    for file in dict.fromkeys([*files, *([readme] if has_sections(readme) else [])]) if check else ():
        text = file.read_text(encoding="utf-8")
        bad += [str(file)] if with_sections(text, file, results) != text else []
    if bad:
        click.echo("These files differ from their results:\n" + "\n".join(bad), err=True)
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
