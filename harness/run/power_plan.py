"""How many prompts and seeds a recipe needs to show a difference, and what that costs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from harness.budget.forecast import Corrections
from harness.budget.machines import Machine
from harness.errors import AbsentError, UserError
from harness.recipe.recipe import Recipe
from harness.run.estimate import Estimate, estimate
from harness.run.outline import outline_of_plans, outline_of_recipe
from harness.run.plan import make_runs
from harness.run.target import model_config
from harness.score.pairing import Pair, is_untrained, paired_metrics
from harness.score.power import LEVEL, Spread, items_needed, spread_of, typical
from harness.score.results import RunResult
from harness.store.stages import Store

POINTS = {"share met": 0.01}
"""By unit of a metric, how much one of a hundred points is; 1 for a percentage."""


@dataclass(frozen=True)
class Need:
    """What one metric needs.

    Attributes:
        benchmark: its name; title: of the metric; unit: of ``difference`` and ``spread``.
        difference: to be shown.
        spread: of the paired difference, the mean variance over ``rows`` rows.
        rows: of stored results that it comes from; 0 if it was stated.
        stored: items that the stored results have; None if it was stated.
        items: by number of seeds, the items needed; None where ten million are too few.
    """

    benchmark: str
    title: str
    unit: str
    difference: float
    spread: Spread
    rows: int
    stored: int | None
    items: Mapping[int, int | None]


@dataclass(frozen=True)
class Needs:
    """What a comparison needs.

    Attributes:
        level: of one comparison after the correction for all of a column (Holm's first step), two-sided.
        needs: of its primary metrics.
        left_out: by title, why a metric is not among them.
    """

    level: float
    needs: tuple[Need, ...]
    left_out: Mapping[str, str]


def level_of(rows: int) -> float:
    """The level of one comparison of so many with one reference: Holm's first step, which a single true difference
    must pass."""
    return LEVEL / max(1, rows)


def stored_needs(
    runs: Sequence[RunResult], reference: str, detect: Mapping[str, float], seeds: Sequence[int], rows: int
) -> Needs:
    """Needs by the spread of stored results.

    Args:
        runs: results of one comparison.
        reference: the row that the others are compared with.
        detect: the difference to show, by benchmark, in its unit; under "" in points of 100 for all others.
        seeds: numbers of seeds to look at.
        rows: that will be compared with the reference.

    Raises:
        UserError: a difference is larger than any can be.
    """
    finished = [run for run in runs if run.status == "ok"]
    by_row: dict[str, list[RunResult]] = {}
    for run in finished:
        by_row.setdefault(run.method, []).append(run)
    pairs: dict[tuple[str, str], list[Pair]] = {}
    for name, row in by_row.items():
        if name != reference and not is_untrained(row) and reference in by_row:
            for pair in paired_metrics(row, by_row[reference]):
                pairs.setdefault((pair.benchmark, pair.metric.name), []).append(pair)
    needs, left_out = [], {}
    for (benchmark, _), family in pairs.items():
        first = family[0]
        reason = _cannot(first, detect)
        if not reason:
            spread = typical([spread_of(pair.differences()) for pair in family])
            reason = "no item differs in the stored results" if not spread.item + spread.rest else ""
        if reason:
            left_out[first.title] = reason
            continue
        unit = first.metric.unit
        difference = detect[benchmark] if benchmark in detect else detect[""] * POINTS.get(unit, 1.0)
        if difference > (most := _most(unit)):
            raise UserError(
                f"--detect {benchmark}={difference:g} is more than {first.title} can differ ({most:g} {unit}): give a "
                "smaller number"
            )
        items = {n: items_needed(spread, difference, n, level_of(rows)) for n in seeds}
        needs.append(Need(benchmark, first.title, unit, difference, spread, len(family), len(first.ids), items))
    return Needs(level_of(rows), tuple(needs), left_out)


def _most(unit: str) -> float:
    """The largest difference in a unit; infinite where none is known."""
    if rating := re.fullmatch(r"rating (\d+)-(\d+)", unit):
        return float(rating[2]) - float(rating[1])
    return 100.0 if "%" in unit else 100.0 * POINTS[unit] if unit in POINTS else inf


def _cannot(pair: Pair, detect: Mapping[str, float]) -> str:
    """Why a metric cannot be planned for; "" if it can."""
    unit = pair.metric.unit
    if not pair.metric.better:
        return "neither direction is better"
    if pair.benchmark not in detect and "" not in detect:
        return "no difference is named for it"
    if pair.benchmark not in detect and "%" not in unit and unit not in POINTS:
        return f"its unit is {unit}: name a difference in it with --detect {pair.benchmark}=X"
    if len(pair.ids) < 2:
        return "fewer than two items are stored"
    return ""


def stated_needs(
    spread: Spread, benchmarks: Sequence[str], detect: Mapping[str, float], seeds: Sequence[int], rows: int
) -> Needs:
    """Needs by a spread that the user states, the same for each benchmark.

    Args:
        spread: in the unit of the differences.
        benchmarks: names.
        detect: the difference to show, by benchmark; under "" for all others.
        seeds: numbers of seeds to look at.
        rows: that will be compared with the reference.
    """
    needs = []
    for name in benchmarks:
        if (difference := detect.get(name, detect.get(""))) is not None:
            items = {n: items_needed(spread, difference, n, level_of(rows)) for n in seeds}
            needs.append(Need(name, name, "as stated", difference, spread, 0, None, items))
    left_out = {name: "no difference is named for it" for name in benchmarks if name not in detect and "" not in detect}
    return Needs(level_of(rows), tuple(needs), left_out)


@dataclass(frozen=True)
class Comparison:
    """Which comparison is priced: ``recipe``, ``budget``, rows ``methods`` and ``benchmarks``, by name."""

    recipe: Recipe
    budget: str
    methods: tuple[str, ...]
    benchmarks: tuple[str, ...]


def cost_of(comparison: Comparison, seeds: int, prompts: int, machine: Machine, hour: float | None) -> Estimate:
    """What a comparison costs from nothing: with so many seeds, and so many evaluation prompts of its own task.

    Args:
        comparison: as the recipe and the command line state it.
        seeds: trained with each method.
        prompts: of the recipe's own task (``data.eval_prompts``); sets of other benchmarks are asked whole.
        machine: that it runs on, one run at a time on each device.
        hour: price of one device for an hour, where the command line gives one.
    """
    recipe, budget, methods, benchmarks = (
        comparison.recipe, comparison.budget, list(comparison.methods), list(comparison.benchmarks)
    )  # fmt: skip
    config = model_config(recipe, None).config
    with tempfile.TemporaryDirectory() as empty:
        try:
            runs = make_runs(recipe, budget, methods, seeds, benchmarks, Store(Path(empty)))
            outline = outline_of_plans(runs, config, lambda name: Corrections())
        except AbsentError:
            outline = outline_of_recipe(recipe, budget, methods, seeds, benchmarks, config)
        data = recipe.data.model_copy(update={"eval_prompts": prompts})
        asked = replace(outline, recipe=recipe.model_copy(update={"data": data}))
        return estimate(asked, machine, machine.count if machine.device.gpu else 1, hour)
