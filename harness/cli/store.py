"""``sail-bench store``: what the store holds, and what of it can go."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from harness.cli.options import use_settings


@click.group()
def store() -> None:
    """What the store of finished stages holds, and what of it can go."""


_STORE = click.option(
    "--store", "root", type=click.Path(path_type=Path), default=Path(".sail-bench"), show_default=True
)


@store.command("ls")
@_STORE
def list_store(root: Path) -> None:
    """What is in the store, by kind, with its size."""
    from harness.run.housekeeping import finished_checkpoints, holdings, size
    from harness.store.stages import Store

    opened = Store(_existing(root))
    for holding in holdings(opened):
        click.echo(f"{holding.kind:<24} {holding.number:>6}  {_amount(holding.bytes):>10}")
    reclaimable = sum(map(size, finished_checkpoints(opened)))
    if reclaimable:
        click.echo(
            f"{_amount(reclaimable)} of it are checkpoints of finished trainings: sail-bench store gc removes them"
        )


@store.command("gc")
@_STORE
@click.option("--keep", "recipes", multiple=True, metavar="RECIPE", help="Remove what none of these recipes needs.")
@click.option("--methods", metavar="A,B", help="Further rows to keep, as with compare.")
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Keep seeds 0..N-1, as with compare.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Official data and files of the recipes.")
@click.option("--yes", is_flag=True, help="Remove; without it, only say what would go.")
def collect(
    root: Path, recipes: tuple[str, ...], methods: str | None, seeds: int | None, data_dir: Path | None, yes: bool
) -> None:
    """Remove checkpoints of finished trainings and, with --keep, every stage that the named recipes do not need."""
    from harness.errors import UserError
    from harness.recipe.load import load_recipe
    from harness.run.housekeeping import finished_checkpoints, size, unneeded
    from harness.store.stages import Store

    use_settings(data_dir)
    opened = Store(_existing(root))
    paths = finished_checkpoints(opened)
    if recipes:
        names = [name.strip() for name in methods.split(",") if name.strip()] if methods else None
        others = unneeded(opened, map(load_recipe, recipes), names, seeds)
        paths = [*others, *(path for path in paths if not any(other in path.parents for other in others))]
    if recipes and yes and (busy := opened.under_way()):
        raise UserError(
            f"A command is at work in the store {root} ({busy[0]}), and may need what would go: wait until it has "
            "ended, or leave out --keep"
        )
    for path in paths:
        click.echo(f"{'removed' if yes else 'would remove'} {path.relative_to(root)} ({_amount(size(path))})")
        if yes:
            shutil.rmtree(path, ignore_errors=True)
    if not paths:
        click.echo("Nothing to remove.")
    elif not yes:
        click.echo("Nothing is removed yet: add --yes.")


def _existing(root: Path) -> Path:
    from harness.errors import UserError

    if not root.is_dir():
        raise UserError(f"There is no store {root}: run 'sail-bench compare' first or set --store")
    return root


def _amount(count: int) -> str:
    """Bytes in words."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
