"""What a store holds, and what of it can go: checkpoints of finished trainings, hidden states, and stages that no
recipe needs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.run.plan import RunPlan, make_runs
from harness.score.results import RunResult, read_result
from harness.store.integrity import SCRATCH
from harness.store.notices import listening
from harness.store.row_cache import RowCache
from harness.store.stage_files import FILES, UNVERIFIED, fault_of, read_manifest, record_now, unrecorded
from harness.store.stages import Store
from harness.store.storage import QUARANTINE
from harness.store.tensor_cache import HIDDEN_STATES

ROWS = "rows.sqlite"


class Verified(NamedTuple):
    """What a check of a whole store showed.

    Attributes:
        whole: stages that are as they were written.
        unverified: stages of an earlier version, whose hashes were recorded only when they were first read.
        faults: one sentence for each stage, or file of cached rows, that is damaged.
        bytes: that were read; seconds: that it took.
    """

    whole: int
    unverified: int
    faults: list[str]
    bytes: int
    seconds: float


class Holding(NamedTuple):
    """Finished stages of one kind, or what else a store has: how many, and bytes."""

    kind: str
    number: int
    bytes: int


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    total, folders = 0, [str(path)]
    while folders:
        with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:  # a store may have 100,000 files
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def holdings(store: Store) -> list[Holding]:
    """What a store holds, the largest first: stages by kind (with their checkpoints), work under way, cached rows, and
    hidden states."""
    by_kind: dict[str, list[Path]] = {}
    for folder in stage_folders(store):
        by_kind.setdefault(folder.name.rsplit("-", 1)[0], []).append(folder)
    parts = [Holding(f"stages: {kind}", len(paths), sum(map(size, paths))) for kind, paths in by_kind.items()]
    work = [path for path in (store.root / "work").glob("*") if path.is_dir()]
    parts.append(Holding("unfinished work", len(work), sum(map(size, work))))
    rows = row_files(store)
    parts.append(Holding("cached rows", len(rows), sum(map(size, rows))))
    damaged = list((store.root / QUARANTINE).glob("*"))
    parts.append(Holding("moved aside as damaged", len(damaged), sum(map(size, damaged))))
    states = list((store.root / HIDDEN_STATES).glob("*"))
    parts.append(Holding("hidden states", len(states), sum(map(size, states))))
    return sorted((h for h in parts if h.number), key=lambda h: -h.bytes)


def stage_folders(store: Store) -> list[Path]:
    """Folders of all finished stages."""
    with suppress(FileNotFoundError), os.scandir(store.root / "stages") as entries:
        return [Path(path) for path in sorted(entry.path for entry in entries if entry.is_dir())]
    return []


def verify(store: Store) -> Verified:
    """Read all that is finished, and compare it with the hashes in the manifests; record those that are missing.

    No stage is moved: ``compare`` does that with what it needs.
    """
    begun, folders, faults, whole, unverified = time.monotonic(), stage_folders(store), list[str](), 0, 0
    for folder in folders:
        if fault := fault_of(folder):
            faults.append(f"{folder.relative_to(store.root)}: {fault}")
            continue
        if unrecorded(folder):
            with suppress(OSError):
                record_now(folder)
        if UNVERIFIED in (manifest := read_manifest(folder) or {}) or FILES not in manifest:
            unverified += 1
        else:
            whole += 1
    if rows := row_files(store):
        with listening(faults.append):  # a file of an earlier version that cannot be read is moved aside
            cache = RowCache(store.root / ROWS)
        if damaged := cache.damaged():
            faults.append(f"Cached rows: {damaged:,} are not as they were written")
        cache.close()
    return Verified(whole, unverified, faults, sum(map(size, [*folders, *rows])), time.monotonic() - begun)


def row_files(store: Store) -> list[Path]:
    """Files of cached rows, those of an earlier version included."""
    return sorted([*store.root.glob(f"{ROWS}*"), *(store.root / ROWS).with_suffix("").glob("*")])


def dispensable(store: Store) -> list[Path]:
    """Folders that no recipe needs, whatever it is: checkpoints of finished trainings, stages that were moved aside as
    damaged, and hidden states, which save computing while a comparison trains and evaluates."""
    folders = (store.root / QUARANTINE, store.root / HIDDEN_STATES)
    return [*finished_checkpoints(store), *(folder for folder in folders if folder.is_dir())]


def finished_checkpoints(store: Store) -> list[Path]:
    """Checkpoints of finished trainings: with the optimiser's state, several times the weights, and of no more use."""
    return [path for folder in stage_folders(store) for path in checkpoints_in(folder)]


def checkpoints_in(folder: Path) -> list[Path]:
    """Folders of checkpoints in a training's folder, those of its rounds included."""
    if not folder.is_dir():
        return []
    names = os.listdir(folder)  # noqa: PTH208 - for each stage of a store; a Path costs more than the call
    parts = [""] * (SCRATCH in names) + sorted(name for name in names if name.startswith("round-"))
    return [path for part in parts if (path := folder / part / SCRATCH).is_dir()]


def discard_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished training."""
    for path in checkpoints_in(folder):
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Kept:
    """What stays of the stages of recipes, beside those of their own budgets, rows, benchmarks and seeds.

    Attributes:
        budgets, methods: further ones.
        seeds: so many, where the recipe has fewer.
        results: folders of results: the budgets, rows, benchmarks and seeds of the recipes' results in them stay as
            well.
    """

    budgets: Sequence[str] = ()
    methods: Sequence[str] = ()
    seeds: int = 0
    results: Sequence[Path] = ()

    def published(self, recipe: Recipe) -> dict[Path, list[RunResult]]:
        """The results of a recipe, by their folder ``<results>/<recipe>/<budget>``."""
        folders = sorted({p.parent.parent for r in self.results for p in (r / recipe.name).glob("*/*/seed-*.json")})
        return {folder: [read_result(path) for path in sorted(folder.glob("*/seed-*.json"))] for folder in folders}


def unneeded(store: Store, recipes: Iterable[Recipe], kept: Kept) -> list[Path]:
    """Finished stages, and work folders, that none of the recipes needs.

    Args:
        store: that is looked through.
        recipes: whose stages stay.
        kept: what else stays.

    Raises:
        UserError: a recipe, or a result of it, cannot be planned.
    """
    needed: set[str] = set()
    for recipe in recipes:
        names = [*recipe.methods, *recipe.variants, *recipe.endpoints, *kept.methods]
        budgets = dict.fromkeys([recipe.budget, *recipe.budgets, *kept.budgets])
        count = max(recipe.seeds, kept.seeds)
        plans = [
            plan
            for budget in budgets
            for plan in make_runs(recipe, budget, list(dict.fromkeys(names)), count, list(recipe.benchmarks), store)
        ]
        plans += _published_runs(recipe, kept, store)
        for plan in plans:
            needed |= {node.key for node in plan.nodes} | plan.comparison.caches
    work = [path for path in (store.root / "work").glob("*") if path.is_dir()]
    return [path for path in (*stage_folders(store), *work) if path.name not in needed]


def _published_runs(recipe: Recipe, kept: Kept, store: Store) -> list[RunPlan]:
    """The runs that the results of a recipe were made by, as the recipe states them now."""
    plans: list[RunPlan] = []
    for folder, results in kept.published(recipe).items():
        budget = results[0].budget["name"]
        rows = list(dict.fromkeys(r.method for r in results))
        benchmarks = list(dict.fromkeys([*recipe.benchmarks, *(b.benchmark for r in results for b in r.benchmarks)]))
        seeds = 1 + max(r.seed for r in results)
        try:
            plans += make_runs(recipe, budget, rows, seeds, benchmarks, store)
        except UserError as error:
            raise UserError(
                f"The results in {folder} do not fit the recipe {recipe.name} ({error}): move them, or set --results "
                "to another folder"
            ) from None
    return plans
