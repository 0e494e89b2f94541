"""``sail-bench figures``: pictures and tables for papers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from harness.cli.options import recipe_name, results_option
from harness.cli.terminal import say


@click.command()
@click.argument("recipe", required=False)
@results_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="They go to OUT/RECIPE/BUDGET; without --results, those of results/local to OUT/local/RECIPE/BUDGET.",
)
@click.option("--cost", type=click.Choice(["flops", "hours"]), help="Axis of costs; by default where methods differ.")
@click.option("--check", is_flag=True, help="Write nothing; fail if what is there has other numbers.")
def figures(
    recipe: str | None, results: Path | None, out: Path, cost: Literal["flops", "hours"] | None, check: bool
) -> None:
    """Pictures (SVG, PNG, PDF) and tables (CSV, LaTeX) of RECIPE's results, of all recipes if none is named.

    Score against cost, differences with intervals, reward against KL, over the budget and by seed; beside each picture
    its numbers as JSON. --check compares numbers: pictures need not be equal byte by byte.
    """
    from harness.report.board import Board
    from harness.report.figure_files import stale_figures, write_figures
    from harness.score.fits import KeptFits
    from harness.score.results import RESULTS, read_results, result_folders

    stale = []
    folders = result_folders(results, recipe_name(recipe))
    for folder in folders:
        board = Board(read_results(folder), None if check else KeptFits(folder))
        place = out / folder.relative_to(results or RESULTS)
        if check:
            stale += stale_figures(board, place, cost)
        else:
            say(f"wrote {len(write_figures(board, place, cost))} files to {place}")
    for sentence in stale:
        say(f"{sentence}.", err=True)
    if stale:
        sys.exit(1)
    if check:
        say(f"figures of {len(folders)} comparison(s) up to date")
