"""What a training step of each method costs beside DPO's, from the ledger of a short run of each.

Run: ``python -m tests.speed.methods [RECIPE] [STEPS]``. Prints one JSON line a method. Sampling between rounds counts
into the steps. DPO runs first, in the middle and last: its mean is the unit, its spread says how steady things are.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from harness.budget.ledger import Ledger
from harness.budget.spec import BudgetSpec
from harness.recipe.load import load_recipe
from harness.recipe.recipe import Recipe
from harness.run.plan import make_run, train_node
from harness.run.plugins import OURS, plugins
from harness.run.run import Run
from harness.store.stages import Store

PROMPTS = 48


def short(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with few prompts and a budget of a few steps."""
    data = recipe.data.model_copy(update={"train_prompts": PROMPTS, "tune_prompts": 4, "heldout_prompts": 8})
    per_step = recipe.train.batch_size * recipe.train.gradient_accumulation
    budgets = {"bench": BudgetSpec(axis="pairs", limit=steps * per_step)}
    return recipe.model_copy(update={"name": "bench", "data": data, "budgets": budgets, "budget": "bench"})


class Timing(NamedTuple):
    """Training seconds a step, and the ledger by phase."""

    seconds: float
    phases: dict[str, Any]


def seconds_a_step(recipe: Recipe, name: str, store: Path, seed: int) -> Timing:
    """Timing of a fresh run.

    Args:
        recipe: whose budget is named ``bench``.
        name: of the method.
        store: an empty folder, or that of earlier runs with the same pairs.
        seed: one that was not run before, so that nothing is taken from the store.
    """
    plan = make_run(recipe, "bench", name, 0, [], Store(store))
    run = Run(plan, lambda kind, value: None)
    run.pairs()
    node = train_node(plan, plan.trials[0].point, seed)
    run.train(node)
    phases = run.store.manifest(node.stage)["ledger"]["phases"]
    spent = sum(phases.get(phase, {}).get("seconds", 0) for phase in ("train", "reference", "generate", "oracle"))
    return Timing(spent / phases["train"]["steps"], phases)


def computed(phases: dict[str, Any]) -> float:
    """Floating-point operations in training, the stored pairs left out."""
    return Ledger(phases).flops("train", "reference", "generate", "oracle")


def measure(name: str, steps: int) -> list[dict[str, Any]]:
    """One row a built-in method that trains; DPO's has the spread of its three runs."""
    recipe = short(load_recipe(name), steps)
    names = [n for n, p in plugins("methods").items() if p.origin == OURS and p.load().trains and n != "dpo"]
    half = len(names) // 2
    order = ["dpo", *names[:half], "dpo", *names[half:], "dpo"]
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(sys.stderr):
        timings = [(n, *seconds_a_step(recipe, n, Path(scratch), place)) for place, n in enumerate(order)]
    unit = [seconds for n, seconds, _ in timings if n == "dpo"]
    mean = sum(unit) / len(unit)
    unit_flops = next(computed(phases) for n, _, phases in timings if n == "dpo")
    rows = [{"method": "dpo", "seconds_a_step": round(mean, 3), "runs": [round(s / mean, 3) for s in unit]}]
    for n, seconds, phases in timings:
        if n != "dpo":
            sampled = round(phases.get("generate", {}).get("generated", 0) / steps, 1)
            row = {"method": n, "seconds_a_step": round(seconds, 3), "ratio": round(seconds / mean, 2)}
            flops = {
                "flops_a_step": f"{computed(phases) / steps:.3g}",
                "flops_ratio": round(computed(phases) / unit_flops, 2),
            }
            rows.append(row | flops | {"tokens_sampled_a_step": sampled})
    return rows


if __name__ == "__main__":
    arguments = sys.argv[1:]
    for line in measure(arguments[0] if arguments else "smollm2", int(arguments[1]) if arguments[1:] else 6):
        print(json.dumps(line))
