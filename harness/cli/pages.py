"""``sail-bench leaderboard`` and ``sail-bench rescore``: pages and scores from what is there."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import click

from harness.cli.options import recipe_name, results_option, use_settings
from harness.cli.terminal import say


@click.command()
@click.argument("recipe", required=False)
@results_option
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
    help="Change nothing; fail if a page or a marked section (of README.md and docs/ beside the results, too) differs "
    "from its results, or a number in those from its items. Your own results are checked with --results results/local.",
)
def leaderboard(recipe: str | None, results: Path | None, files: tuple[Path, ...], check: bool) -> None:
    """Rewrite the leaderboards of RECIPE (all if none is named) from the result files alone."""
    from harness.report.leaderboard import write_leaderboard
    from harness.report.marked_sections import update_sections
    from harness.score.results import LOCAL, RESULTS, result_folders

    gc.freeze()  # what is imported stays: no garbage is looked for in it
    click.get_current_context().call_on_close(gc.unfreeze)
    folders = result_folders(results, recipe_name(recipe))
    if check:
        own = [folder for folder in folders if results is None and folder.is_relative_to(LOCAL)]
        others = [folder for folder in folders if folder not in own]
        _check(others or own, files, results or RESULTS)
        if others and own:
            say(f"{len(own)} of your own left out: sail-bench leaderboard --check --results {LOCAL}")
        return
    for folder in folders:
        write_leaderboard(folder)
        say(f"wrote {folder / 'LEADERBOARD.md'}")
    for file in files:
        say(f"{'updated' if update_sections(file, results or RESULTS) else 'left as it is:'} {file}")


def _check(folders: list[Path], files: tuple[Path, ...], results: Path) -> None:
    """Hold pages, marked sections, numbers and judge cards against the results; exit with 1 if one differs."""
    from harness.judge.card_check import edited_card
    from harness.report.judge_card import card_page
    from harness.report.judge_citation import FOLDER as CARDS
    from harness.report.leaderboard import stale_files
    from harness.report.marked_sections import has_sections, with_sections
    from harness.score.judge_cards import read_card
    from harness.score.recheck import edited_numbers

    bad = [str(folder / name) for folder in folders for name in stale_files(folder)]
    edited = [sentence for folder in folders for sentence in edited_numbers(folder)]
    for root in dict.fromkeys(folder.parent.parent for folder in folders):
        for path in sorted((root / CARDS).glob("*.json")):
            edited += edited_card(path)
            page = path.with_suffix(".md")
            if not page.is_file() or page.read_text(encoding="utf-8") != card_page(read_card(path)):
                bad.append(str(page))
    beside = results.resolve().parent
    texts = [beside / "README.md", *sorted((beside / "docs").glob("*.md"))]
    for file in {path.resolve(): path for path in [*filter(has_sections, texts), *files]}.values():
        text = file.read_text(encoding="utf-8")
        if with_sections(text, file, results) != text:
            bad.append(str(file))
    if bad:
        say("These files differ from their results:\n" + "\n".join(bad), err=True)
    for sentence in edited:
        say(f"{sentence}.", err=True)
    if bad or edited:
        sys.exit(1)
    say(f"{len(folders)} leaderboard(s) up to date")


@click.command()
@click.argument("recipe", required=False)
@results_option
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path(".sail-bench"),
    show_default=True,
    help="Where the answers and judgments are kept.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Official data, to find judgments of official sets.")
def rescore(recipe: str | None, results: Path | None, store: Path, data_dir: Path | None) -> None:
    """Compute the scores of RECIPE (all if none is named) again from what is stored: no model, no judge."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # data that are not here are not fetched for it
    from harness.run.rescore import rescore as run

    use_settings(data_dir, offline=True)
    changed = run(recipe, results, store, say)
    say(f"{changed} result file(s) changed; leaderboards rewritten")
