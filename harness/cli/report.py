"""``sail-bench report``: the page to explore a comparison."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.terminal import say
from harness.errors import UserError


@click.command()
@click.argument("results", type=click.Path(path_type=Path), required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="The file; else report.html beside the results."
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path(".sail-bench"),
    show_default=True,
    help="Where answers and verdicts are kept; without it the report has no samples.",
)
def report(results: Path | None, out: Path | None, store: Path) -> None:
    """Write report.html, one file to explore. RESULTS: a comparison (results/RECIPE/BUDGET) or a folder of several;
    if none is named, the latest comparison in results/local."""
    from harness.report.html.page import write_report

    folders = _comparisons(results) if results is not None else [_latest()]
    if out is not None and len(folders) > 1:
        names = ", ".join(str(folder) for folder in folders)
        raise UserError(f"--out names one file and there are several comparisons: give one of {names}")
    if out is not None and out.is_dir():
        raise UserError(f"--out {out} is a folder: give a file in it")
    if not (store / "stages").is_dir():
        say(f"No store at {store}: the report has no samples (--store FOLDER gives it)", err=True)
    for folder in folders:
        path = write_report(folder, store, out)
        say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def _comparisons(results: Path) -> list[Path]:
    """Folders of the comparisons that a path stands for: itself, those of a recipe, or those of all recipes."""
    if not results.is_dir():
        recipe = f" (a recipe's results are in results/local/{results})" * (len(results.parts) == 1)
        what = "is a file" if results.exists() else f"does not exist{recipe}"
        raise UserError(f"{results} {what}: give the folder of a comparison (results/RECIPE/BUDGET) or of several")
    if any(results.glob("seed-*.json")):
        raise UserError(f"{results} is one row: give the folder of its comparison, {results.parent}")
    for pattern in ("*/seed-*.json", "*/*/seed-*.json", "*/*/*/seed-*.json"):
        folders = sorted({path.parent.parent for path in results.glob(pattern)})
        if folders:
            return folders
    raise UserError(
        f"{results} holds no results: give the folder of a comparison (results/RECIPE/BUDGET) or of several"
    )


def _latest() -> Path:
    """The comparison in results/local whose results are the newest.

    Raises:
        UserError: there is none.
    """
    from harness.score.results import LOCAL, result_folders

    files = list(LOCAL.glob("*/*/*/seed-*.json"))
    if not files:
        names = ", ".join(str(folder) for folder in result_folders(None))
        raise UserError(f"There are no results in {LOCAL}: name a comparison, one of {names}")
    return max(files, key=lambda file: file.stat().st_mtime).parents[1]
