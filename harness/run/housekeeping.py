"""What a store holds, and what of it can go: checkpoints of finished trainings, and stages that no recipe needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.recipe.recipe import Recipe
from harness.run.plan import make_runs
from harness.store.stages import Store


class Holding(NamedTuple):
    """Finished stages of one kind, or what else a store has: how many, and bytes."""

    kind: str
    number: int
    bytes: int


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def holdings(store: Store) -> list[Holding]:
    """What a store holds, the largest first: stages by kind, work under way, cached rows, and checkpoints (which are
    part of the stages)."""
    by_kind: dict[str, list[Path]] = {}
    for folder in stage_folders(store):
        by_kind.setdefault(folder.name.rsplit("-", 1)[0], []).append(folder)
    parts = [Holding(f"stages: {kind}", len(paths), sum(map(size, paths))) for kind, paths in by_kind.items()]
    work = [path for path in (store.root / "work").glob("*") if path.is_dir()]
    parts.append(Holding("unfinished work", len(work), sum(map(size, work))))
    rows = sorted(store.root.glob("rows.sqlite*"))
    parts.append(Holding("cached rows", len(rows), sum(map(size, rows))))
    return sorted((h for h in parts if h.number), key=lambda h: -h.bytes)


def stage_folders(store: Store) -> list[Path]:
    """Folders of all finished stages."""
    return sorted(path for path in (store.root / "stages").glob("*") if path.is_dir())


def finished_checkpoints(store: Store) -> list[Path]:
    """Checkpoints of finished trainings: with the optimiser's state, several times the weights, and of no more use."""
    return [path for folder in stage_folders(store) for path in checkpoints_in(folder)]


def checkpoints_in(folder: Path) -> list[Path]:
    """Folders of checkpoints in a training's folder, those of its rounds included."""
    return sorted(path for path in (*folder.glob("checkpoints"), *folder.glob("round-*/checkpoints")) if path.is_dir())


def discard_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished training."""
    for path in checkpoints_in(folder):
        shutil.rmtree(path, ignore_errors=True)


def unneeded(store: Store, recipes: Iterable[Recipe], methods: Sequence[str] | None, seeds: int | None) -> list[Path]:
    """Finished stages, and work folders, that none of the recipes needs under any of its budgets.

    Args:
        store: that is looked through.
        recipes: whose stages stay.
        methods: rows besides those of the recipes whose stages stay.
        seeds: so many seeds stay; the recipe's number if None.

    Raises:
        UserError: a recipe cannot be planned.
    """
    needed: set[str] = set()
    for recipe in recipes:
        names = list(dict.fromkeys([*recipe.methods, *recipe.variants, *recipe.endpoints, *(methods or ())]))
        for budget in dict.fromkeys([recipe.budget, *recipe.budgets]):
            count = max(recipe.seeds, seeds or 0)
            for plan in make_runs(recipe, budget, names, count, list(recipe.benchmarks), store):
                needed |= {node.key for node in plan.nodes} | plan.comparison.caches
    work = [path for path in (store.root / "work").glob("*") if path.is_dir()]
    return [path for path in (*stage_folders(store), *work) if path.name not in needed]
