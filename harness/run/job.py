"""A run, or a part of one, as data: what a process is given, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.recipe.recipe import Recipe
from harness.run.comparison import resolve
from harness.run.plan import RunPlan, load_facts, load_run
from harness.store.settings import settings
from harness.store.stages import Store

ALL, FIRST, SHARED, TRIAL = "all", "first", "shared", "trial-"
"""Parts of a run: everything; everything up to the first benchmark; what all runs share (start policy and pairs); one
trial of the search, by its number."""


class Event(NamedTuple):
    """What a run process says: ``stage``, ``share``, ``advance`` and ``at`` are progress, ``say`` a line, ``logged`` a
    row of a training log for trackers; after ``checked`` no other process of the comparison has to check it; ``done``,
    ``failed`` (a reason) and ``user error`` (sentences that would meet every run) are the last one."""

    kind: str
    value: Any = None


@dataclass(frozen=True)
class Job:
    """All that a run process is given. It can be written as JSON, and holds no API key.

    Attributes:
        recipe: as JSON; ``folder``: where its file lies, if it came from one.
        budget: name; ``method``: name of the row; ``seed``: of the run; ``benchmarks``: those asked for;
        ``rows``: names of all rows of the comparison.
        nodes: the plan of the run, by :meth:`harness.run.plan.RunPlan.dump`.
        store: folder of finished stages; ``log``: the file that gets the output.
        settings: of the command that started it.
        part: what of the run is to be done; ``checked``: by another process (:meth:`harness.run.run.Run.work`).
    """

    recipe: Mapping[str, Any]
    folder: str | None
    budget: str
    method: str
    seed: int
    benchmarks: tuple[str, ...]
    rows: tuple[str, ...]
    nodes: Mapping[str, Any]
    store: str
    log: str
    settings: Mapping[str, Any]
    part: str = ALL
    checked: bool = False

    @property
    def minutes(self) -> float | None:
        """After which the job is ended, if the recipe sets a ``time_limit``."""
        limit: float | None = self.recipe.get("time_limit")
        return limit

    @classmethod
    def of(cls, plan: RunPlan, part: str = ALL, *, checked: bool = False) -> Job:
        """The job that works through a plan, or through a part of it.

        Args:
            plan: of the run.
            part: what of it is to be done.
            checked: whether another process of the comparison has checked that it can work.
        """
        comparison = plan.comparison
        recipe, root = comparison.recipe, comparison.store.root.resolve()
        name = f"{recipe.name}-{comparison.budget.name}-{plan.name}-seed-{plan.seed}"
        name += "" if part == ALL else f"-{part}"
        folder = recipe.data.folder if recipe.data.imported else None
        return cls(
            recipe=recipe.model_dump(mode="json"),
            folder=str(folder) if folder else None,
            budget=comparison.budget.name,
            method=plan.name,
            seed=plan.seed,
            benchmarks=comparison.wanted,
            rows=comparison.names,
            nodes=plan.dump(),
            store=str(root),
            log=str(root / "logs" / f"{name}.log"),
            settings=settings().dump(),
            part=part,
            checked=checked,
        )

    @property
    def processes(self) -> int:
        """In how many processes the run trains."""
        return int(self.recipe["train"].get("processes", 1))

    def plan(self) -> RunPlan:
        """The plan that it was made of, with what the store holds now."""
        recipe = Recipe.model_validate(self.recipe)
        if recipe.data.imported and self.folder:
            recipe.data._folder = Path(self.folder)
        facts = load_facts(self.nodes)
        comparison = resolve(recipe, self.budget, self.rows, self.benchmarks, Store(Path(self.store)), facts)
        return load_run(comparison, self.method, self.seed, self.nodes)
