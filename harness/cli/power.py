"""``sail-bench power``: how many prompts and seeds would show a difference, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import compare_options, comparison_options
from harness.cli.terminal import say, say_json
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.run.compare import CompareOptions
    from harness.run.estimate import Estimate
    from harness.run.power_plan import Need, Needs

SEEDS = (1, 3, 5)
MOST_POINTS = 100


@click.command()
@comparison_options
@click.option(
    "--detect",
    metavar="X|NAME=X",
    multiple=True,
    required=True,
    help="Difference to show: points of 100 for all benchmarks, or NAME=X for one in its own unit. Repeatable.",
)
@click.option("--sd", type=click.FloatRange(min=0, min_open=True), help="Spread of a paired item difference, stated.")
@click.option("--seed-sd", type=click.FloatRange(min=0), help="Spread over seeds of a mean difference, stated.")
@click.option("--machine", metavar="NAME", default="this", show_default=True, help="Where it would run, as in `plan`.")
@click.option("--price-hour", type=click.FloatRange(min=0), metavar="X", help="Price of one device for an hour.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def power(
    detect: Sequence[str],
    sd: float | None,
    seed_sd: float | None,
    machine: str,
    price_hour: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """How many prompts and seeds RECIPE needs to show a difference to its reference with power 80%, and their cost.

    The spread of paired differences comes from stored results of the recipe, or is stated with --sd (in the unit of
    --detect) and --seed-sd. The level is 5% after the correction for all rows. --seeds N looks at N seeds alone.
    """
    from harness.run.power_plan import stated_needs
    from harness.run.target import target_machine
    from harness.score.power import Spread

    chosen = compare_options(options)
    recipe = chosen.recipe
    rows = [name for name in chosen.methods or recipe.methods if name != recipe.reference]
    benchmarks = list(chosen.benchmarks or recipe.benchmarks)
    wanted = _differences(detect, benchmarks)
    counts = (chosen.seeds,) if chosen.seeds else SEEDS
    stored: Path | None = None
    if sd is None:
        stored = _stored(chosen, options["results"])
        needs = _needs(chosen, wanted, counts, len(rows), stored, seed_sd)
    else:
        spread = Spread(sd, nan if seed_sd is None else seed_sd, 0.0)
        needs = stated_needs(spread, benchmarks, wanted, counts, len(rows))
    task = {need.benchmark for need in needs.needs} & _on_task(chosen, benchmarks)
    costs = _costs(chosen, needs, task, counts, (target_machine(machine), price_hour))
    if as_json:
        where = None if stored is None else str(stored)
        say_json(_record(chosen, needs, costs) | {"spread_from": where})
    else:
        _show(chosen, needs, costs, task, len(rows))
        if stored is not None:
            say(f"Spread of paired differences: from {stored}")


def _differences(texts: Sequence[str], benchmarks: Sequence[str]) -> dict[str, float]:
    """What ``--detect`` says, by benchmark; under "" what holds for all others."""
    wanted = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise UserError(f"--detect {text} names no difference above 0: give a number, or BENCHMARK=NUMBER")
        if not name and value > MOST_POINTS:
            raise UserError(f"--detect {text} is no difference in points of 100: give a number up to 100")
        if name and name not in benchmarks:
            raise unknown("benchmark in --detect", name, benchmarks)
        wanted[name] = value
    return wanted


def _needs(
    chosen: CompareOptions,
    wanted: Mapping[str, float],
    counts: Sequence[int],
    rows: int,
    stored: Path,
    seed_sd: float | None,
) -> Needs:
    """Prompts needed by the spread of stored results.

    Args:
        chosen: the comparison.
        wanted: differences by benchmark.
        counts: numbers of seeds.
        rows: compared with the reference.
        stored: folder of the results.
        seed_sd: spread over seeds; None where it is not stated.
    """
    from dataclasses import replace

    from harness.run.power_plan import level_of, stored_needs
    from harness.score.power import items_needed
    from harness.score.results import read_results

    recipe = chosen.recipe
    asked = set(chosen.benchmarks or recipe.benchmarks)
    runs = [
        r.model_copy(update={"benchmarks": [b for b in r.benchmarks if b.benchmark in asked]})
        for r in read_results(stored)
    ]
    needs = stored_needs(runs, recipe.reference, wanted, counts, rows)
    if not needs.needs and not needs.left_out:
        raise UserError(
            f"The results in {stored} hold no row beside {recipe.reference} on the same prompts: run "
            f"'sail-bench compare {recipe.name}' with two methods, or state a spread with --sd"
        )
    if seed_sd is None:
        return needs
    changed = []
    for need in needs.needs:
        spread = replace(need.spread, seed=seed_sd)
        items = {n: items_needed(spread, need.difference, n, level_of(rows)) for n in counts}
        changed.append(replace(need, spread=spread, items=items))
    return replace(needs, needs=tuple(changed))


def _stored(chosen: CompareOptions, results: Path | None) -> Path:
    """The folder with stored results of the comparison: a user's own come before others."""
    from harness.score.results import results_read

    budget = chosen.budget or chosen.recipe.budget
    folders = [root / chosen.recipe.name / budget for root in reversed(results_read(results))]
    for folder in folders:
        if any(folder.glob("*/seed-*.json")):
            return folder
    raise UserError(
        f"{folders[0]} holds no results to take a spread from: run 'sail-bench compare {chosen.recipe.name}' first, "
        "set --results or --budget, or state a spread with --sd"
    )


def _on_task(chosen: CompareOptions, benchmarks: Sequence[str]) -> set[str]:
    """Benchmarks on the recipe's own prompts, of which there can be more."""
    from harness.run.plugins import plugins

    return {name for name in benchmarks if name in plugins("benchmarks") and "task" in _needed_by(name)}


def _needed_by(name: str) -> frozenset[str]:
    from harness.run.plugins import plugins

    return frozenset(plugins("benchmarks")[name].load().needs)


def _costs(
    chosen: CompareOptions, needs: Needs, task: set[str], counts: Sequence[int], where: tuple[Any, float | None]
) -> dict[int, tuple[int, Estimate]]:
    """By number of seeds, the prompts of the recipe's own task and what the comparison then costs.

    Args:
        chosen: the comparison.
        needs: what it needs.
        task: benchmarks on the recipe's own prompts.
        counts: numbers of seeds.
        where: machine, and price of a device for an hour.
    """
    from harness.run.power_plan import Comparison, cost_of

    recipe = chosen.recipe
    comparison = Comparison(
        recipe,
        chosen.budget or recipe.budget,
        tuple(chosen.methods or recipe.methods),
        tuple(chosen.benchmarks or recipe.benchmarks),
    )
    costs = {}
    for count in counts:
        asked = [need.items[count] for need in needs.needs if need.benchmark in task]
        enough = [number for number in asked if number is not None]
        if len(enough) == len(asked):
            prompts = max(enough, default=recipe.data.eval_prompts)
            costs[count] = prompts, cost_of(comparison, count, prompts, *where)
    return costs


def _show(
    chosen: CompareOptions, needs: Needs, costs: Mapping[int, tuple[int, Estimate]], task: set[str], rows: int
) -> None:
    """Print the table, what it assumes, and the costs."""
    recipe = chosen.recipe
    say(
        f"{recipe.name}: prompts needed to show a difference to {recipe.reference} with power 80%, at 5% after Holm's "
        f"correction for {rows} row{'s' if rows != 1 else ''} (level {100 * needs.level:.3g}% a comparison)"
    )
    for need in needs.needs:
        say(f"  {need.title}: a difference of {need.difference:g} {need.unit}")
        say(f"    spread of a paired difference: {_spread(need)}")
        for count in need.items:
            seeds = f"{count} seed{'s' if count > 1 else ''}"
            say(f"    {seeds:<9} {_needed(need, count, need.benchmark in task, needs.level)}")
    for title, reason in needs.left_out.items():
        say(f"  left out: {title}: {reason}")
    for line in _notes(needs):
        say(line)
    for count, (prompts, cost) in costs.items():
        say(_cost_line(count, prompts, cost))


def _spread(need: Need) -> str:
    spread = need.spread
    seed = f"{spread.seed:.3g}" if spread.seed_is_known else "not known"
    rest = f", item and seed together {spread.rest:.3g}" if spread.rest else ""
    origin = f"{need.rows} stored row{'s' if need.rows != 1 else ''}" if need.rows else "as stated"
    return f"item {spread.item:.3g}, seed {seed}{rest} ({origin})"


def _needed(need: Need, count: int, on_task: bool, level: float) -> str:
    """What a number of seeds needs.

    Args:
        need: of the metric.
        count: of seeds.
        on_task: whether the recipe can ask more prompts.
        level: of one comparison.
    """
    items = need.items[count]
    if items is None:
        from harness.score.power import MOST_ITEMS, seeds_hide, seeds_needed

        if not seeds_hide(need.spread, need.difference, count, level):
            return f"more than {MOST_ITEMS:,} prompts"
        enough = seeds_needed(need.spread, need.difference, level)
        hint = f"{enough} seeds could show it" if enough else "1,000 would not show it"
        return f"no number of prompts, since the spread over seeds alone hides it: {hint}"
    if need.stored is None:
        return f"{items:,} prompts"
    if items <= need.stored:
        return f"{items:,} prompts (there are {need.stored:,})"
    more = "raise data.eval_prompts" if on_task else "the set has no more"
    return f"{items:,} prompts (there are {need.stored:,}: {more})"


def _notes(needs: Needs) -> list[str]:
    """What the figures leave open."""
    lines = ["One seed compares two trained policies; only several say something about the methods."]
    if any(not need.spread.seed_is_known for need in needs.needs):
        lines.append(
            "The spread over seeds is not known (one seed stored) and counts as 0: with several seeds these are the "
            "fewest prompts. State it with --seed-sd, or run a second seed."
        )
    return lines


def _cost_line(count: int, prompts: int, cost: Estimate) -> str:
    """One line: what the whole comparison costs with so many seeds and prompts."""
    hours = "hours not known" if cost.wall is None else f"{cost.wall / 3600:.2g} h"
    money = "".join(f", {cost.money.currency} {sum(cost.money.parts.values()):,.2f}" for _ in [0] if cost.money.parts)
    calls = "".join(f", {n:,.0f} {name} calls" for name, n in cost.calls.items() if n)
    asked = f"{count} seed{'s' if count > 1 else ''}, {prompts:,} prompts of its own"
    return f"All of it from nothing, {asked}: {hours} on {cost.machine.name}{money}{calls}"


def _record(chosen: CompareOptions, needs: Needs, costs: Mapping[int, tuple[int, Estimate]]) -> dict[str, Any]:
    """The JSON form."""
    return {
        "recipe": chosen.recipe.name,
        "reference": chosen.recipe.reference,
        "level": needs.level,
        "power": 0.8,
        "needs": [
            {
                "benchmark": need.benchmark,
                "title": need.title,
                "unit": need.unit,
                "difference": need.difference,
                "spread": {
                    "item": need.spread.item,
                    "seed": need.spread.seed if need.spread.seed_is_known else None,
                    "rest": need.spread.rest,
                },
                "rows": need.rows,
                "stored": need.stored,
                "items": {str(count): items for count, items in need.items.items()},
            }
            for need in needs.needs
        ],
        "left_out": dict(needs.left_out),
        "costs": {
            str(count): {
                "prompts": prompts,
                "machine": cost.machine.name,
                "seconds": cost.wall,
                "money": sum(cost.money.parts.values()) if cost.money.parts else None,
                "currency": cost.money.currency,
                "calls": {name: n for name, n in cost.calls.items() if n},
            }
            for count, (prompts, cost) in costs.items()
        },
    }
