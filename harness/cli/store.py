"""``sail-bench store``: what the store holds, and what of it can go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import json_option, list_option, names_of, use_settings
from harness.cli.terminal import say, say_json

if TYPE_CHECKING:
    from harness.run.housekeeping import Kept
    from harness.store.stages import Store


@click.group()
def store() -> None:
    """What the store of finished stages holds, and what of it can go."""


_STORE = click.option(
    "--store",
    "root",
    type=click.Path(path_type=Path),
    default=Path(".sail-bench"),
    show_default=True,
    help="The folder of the store.",
)


@store.command("ls")
@_STORE
@json_option
def list_store(root: Path, as_json: bool) -> None:
    """What is in the store, by kind, with its size."""
    from harness.run.housekeeping import dispensable, holdings, size
    from harness.store.stages import Store

    opened = Store(_existing(root))
    reclaimable = sum(map(size, dispensable(opened)))
    if as_json:
        kinds = [holding._asdict() for holding in holdings(opened)]
        say_json({"kinds": kinds, "reclaimable_bytes": reclaimable})
        return
    for holding in holdings(opened):
        say(f"{holding.kind:<24} {holding.number:>6}  {_amount(holding.bytes):>10}")
    if reclaimable:
        say(
            f"{_amount(reclaimable)} of it are checkpoints of finished trainings, damaged stages and hidden states: "
            "sail-bench store gc removes them"
        )


@store.command("verify")
@_STORE
def verify_store(root: Path) -> None:
    """Read all that the store holds and compare it with the hashes that were recorded when it was written."""
    from harness.errors import UserError
    from harness.run.housekeeping import verify
    from harness.store.stages import Store

    opened = Store(_existing(root))
    with opened.in_use():
        verified = verify(opened)
    for fault in verified.faults:
        say(fault)
    say(
        f"{verified.whole} stages are as they were written"
        + (f"; {verified.unverified} unverified: of a version without hashes" if verified.unverified else "")
        + f" ({_amount(verified.bytes)} in {verified.seconds:.1f} s)"
    )
    if verified.faults:
        raise UserError(
            f"Damaged parts of the store {root}: {len(verified.faults)}. The 'sail-bench compare' that made them moves "
            "them aside and makes them again: run it once more"
        )


@store.command("gc")
@_STORE
@click.option("--keep", "recipes", multiple=True, metavar="RECIPE", help="Remove what none of these recipes needs.")
@list_option("--methods", "Further rows to keep, as with compare.")
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Keep seeds 0..N-1, as with compare.")
@click.option("--budget", "budgets", multiple=True, metavar="NAME", help="Further budgets to keep, as with compare.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    show_default="results, results/studies and results/local",
    help="What the recipes' results in it were made from is kept as well.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Official data and files of the recipes.")
@click.option("--yes", is_flag=True, help="Remove; without it, only say what would go.")
def collect(
    root: Path,
    recipes: tuple[str, ...],
    methods: str | None,
    seeds: int | None,
    budgets: tuple[str, ...],
    results: Path | None,
    data_dir: Path | None,
    yes: bool,
) -> None:
    """Remove checkpoints of finished trainings, hidden states and, with --keep, every stage that the named recipes do
    not need."""
    from harness.errors import UserError
    from harness.run.housekeeping import Kept, dispensable
    from harness.score.results import results_read
    from harness.store.stages import Store

    use_settings(data_dir)
    names = names_of("--methods", methods) or []
    opened = Store(_existing(root))
    for flag, value in {"--budget": budgets, "--methods": methods, "--seeds": seeds}.items():
        if value and not recipes:
            raise UserError(f"{flag} says what --keep keeps of a recipe: add --keep RECIPE, or leave it out")
    if not recipes:
        _remove(root, dispensable(opened), yes=yes)
        return
    kept = Kept(budgets, names, seeds or 0, results_read(results))
    if not yes:
        _remove(root, _without(opened, recipes, kept), yes=False)
        return
    with opened.cleared() as alone:
        busy = opened.under_way()
        if busy or not alone:
            work = f" ({busy[0]})" if busy else ""
            raise UserError(
                f"A command is at work in the store {root}{work}, and may need what would go: wait until it has "
                "ended, or leave out --keep"
            )
        _remove(root, _without(opened, recipes, kept), yes=True)


def _without(opened: Store, recipes: tuple[str, ...], kept: Kept) -> list[Path]:
    """What none of the recipes needs, and what no recipe needs beside it."""
    from harness.recipe.load import load_recipe
    from harness.run.housekeeping import dispensable, unneeded

    others = unneeded(opened, map(load_recipe, recipes), kept)
    return [*others, *(p for p in dispensable(opened) if not any(other in p.parents for other in others))]


def _remove(root: Path, paths: list[Path], *, yes: bool) -> None:
    """Remove what can go from a store, or say what would go."""
    from harness.run.housekeeping import size

    for path in paths:
        say(f"{'removed' if yes else 'would remove'} {path.relative_to(root)} ({_amount(size(path))})")
        if yes:
            shutil.rmtree(path, ignore_errors=True)
    if not paths:
        say("Nothing to remove.")
    elif not yes:
        say("Nothing is removed yet: add --yes.")


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
