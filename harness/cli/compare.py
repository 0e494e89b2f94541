"""``sail-bench compare``."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import (
    cluster_option,
    compare_options,
    comparison_options,
    preflight_option,
    quiet_option,
    report_to_option,
    workers_option,
)
from harness.cli.terminal import say
from harness.store.foreign_text import one_line

if TYPE_CHECKING:
    from harness.run.compare import CompareOptions


@click.command()
@comparison_options
@workers_option
@cluster_option
@report_to_option
@preflight_option
@quiet_option
def compare(quiet: bool, **options: Any) -> None:
    """Train and evaluate the methods of RECIPE (a built-in name or a YAML file) under one budget.

    Without a recipe, --model and --data make one, which is kept beside the results.
    """
    with _begun_early(options):
        from harness.run.compare import compare as run
        from harness.score.results import read_result

        chosen = compare_options(options)
        problems = run(chosen, quiet=quiet)
    file = chosen.page.folder / "LEADERBOARD.md"
    if file.is_file():
        from rich.console import Console

        from harness.report.terminal import print_scores

        print_scores(chosen.page.scores(), Console(width=None if sys.stdout.isatty() else 140))
    if problems:
        say("Failed runs:\n" + "\n".join(f"- {one_line(p)}" for p in problems), err=True)
    if file.is_file():
        say(f"\nLeaderboard: {file}")
        if any(read_result(path).status == "ok" for path in file.parent.glob("*/seed-*.json")):
            say(f"A page to explore, with all answers: {_report_command(chosen)}")
    if problems:
        sys.exit(1)


def _begun_early(options: dict[str, Any]) -> AbstractContextManager[None]:
    """With a store in which nothing was worked on there will be runs: their server imports beside this command."""
    if options["cluster"] or not _is_new(options["store"]):
        return nullcontext()
    from harness.run.child import begun_early

    return begun_early()


def _is_new(store: Path) -> bool:
    try:
        return not (store / "stages").is_dir()
    except (OSError, ValueError):  # the command is refused for it in a moment
        return False


def _report_command(chosen: CompareOptions) -> str:
    """The command that makes report.html of a comparison."""
    store = [] if chosen.store == Path(".sail-bench") else ["--store", str(chosen.store)]
    return join(["sail-bench", "report", str(chosen.page.folder), *store])
