"""``sail-bench compare``."""

from __future__ import annotations

import sys
from typing import Any

import click

from harness.cli.options import compare_options, comparison_options, report_to_option, workers_option


@click.command()
@comparison_options
@workers_option
@report_to_option
def compare(**options: Any) -> None:
    """Train and evaluate the methods of RECIPE (a built-in name or a YAML file) under one budget."""
    from harness.run.compare import compare as run

    chosen = compare_options(options)
    problems = run(chosen)
    file = chosen.page.folder / "LEADERBOARD.md"
    if file.is_file():
        from rich.console import Console

        from harness.report.terminal import print_scores

        print_scores(chosen.page.scores(), Console(width=None if sys.stdout.isatty() else 140))
        click.echo(f"Leaderboard: {file}")
    if problems:
        click.echo("Failed runs:\n" + "\n".join(f"- {p}" for p in problems), err=True)
        sys.exit(1)
