"""From a recipe to the runs of a comparison; whatever is wrong with it is said before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.benchmark import Benchmark
from harness.budget.budget import Budget
from harness.budget.spec import named_budgets
from harness.errors import UserError, unknown
from harness.methods.base import Method
from harness.methods.endpoint import Remote
from harness.oracles.none import NONE
from harness.pairs.prompts import splits
from harness.recipe.recipe import PairsSpec, Recipe
from harness.recipe.search import points
from harness.run import plugins as registry
from harness.run.plan import RunPlan
from harness.run.plugins import make_benchmark, make_method, make_oracle, own_options
from harness.store.stages import Store


def _fitting(method: Method, loaded: list[Benchmark]) -> list[Benchmark]:
    """The benchmarks that can measure a method: texts alone come from an endpoint."""
    return [b for b in loaded if "weights" not in b.needs] if isinstance(method, Remote) else loaded


def _check_oracles(recipe: Recipe, methods: Mapping[str, Method], on_task: list[str]) -> None:
    """Refuse a recipe in which answers will have to be scored that its oracles cannot score.

    Raises:
        UserError: names what asks the oracle.
    """
    mend = "set oracle: {name: reward_model, options: {model: DIR}} (sail-bench train-reward makes one)"
    asked = {"oracle": recipe.oracle.name, "eval_oracle": (recipe.eval_oracle or recipe.oracle).name}
    if not isinstance(recipe.data, PairsSpec):
        if asked["oracle"] == NONE:
            raise UserError("The task constraints samples pairs that an oracle must label: set oracle: constraints")
        return
    if "constraints" in asked.values():
        raise UserError(f"The oracle constraints knows its own prompts only, not those of data.train: {mend}")
    if asked["oracle"] == NONE:
        for name, method in methods.items():
            if method.spending().labelled:
                raise UserError(f"The method {name} asks an oracle for labels and the recipe has none: {mend}")
            if method.trains and len(points(recipe.tune, name, method.grid, own_options(recipe, name))) > 1:
                raise UserError(f"A search needs a reward and the recipe has no oracle: leave one trial, or {mend}")
    if asked["eval_oracle"] == NONE and on_task:
        raise UserError(f"The benchmark {on_task[0]} needs a reward and the recipe has no oracle: {mend}")


def make_runs(
    recipe: Recipe, budget_name: str, methods: list[str], seeds: int, benchmarks: list[str], store: Store
) -> list[RunPlan]:
    """All runs of a comparison, seed by seed, the control first.

    Raises:
        UserError: an unknown budget, method, benchmark or oracle.
    """
    offered = named_budgets() | recipe.budgets
    if budget_name not in offered:
        raise unknown("budget", budget_name, offered)
    budget = Budget.of(budget_name, offered[budget_name], free_data=recipe.data.free)
    for spec in (recipe.oracle, recipe.eval_oracle):
        if spec is not None:
            make_oracle(spec).identity()
    splits(recipe.data)
    loaded = [make_benchmark(recipe, name) for name in dict.fromkeys([*recipe.benchmarks, *benchmarks])]
    for benchmark in loaded:
        if benchmark.judged_by == "endpoint" and recipe.judge == "local":
            raise UserError(
                f"The benchmark {benchmark.name} needs a judge behind an endpoint: set judge: {{model: NAME}}"
            )
        benchmark.protocol()  # missing data are told before any work
    for kind, names in (("variant", recipe.variants), ("endpoint", recipe.endpoints)):
        for name in names:
            if name in registry.plugins("methods"):
                raise UserError(
                    f"The {kind} {name!r} has the name of an installed method: choose another in the recipe"
                )
    chosen = {name: make_method(recipe, name) for name in methods}
    _check_oracles(recipe, chosen, [b.name for b in loaded if "task" in b.needs and b.name in benchmarks])
    per_step = recipe.train.batch_size * recipe.train.gradient_accumulation
    if any(m.trains for m in chosen.values()) and budget.steps(per_step) == 0:
        raise UserError(
            f"Budget {budget.name!r} ({budget.limit} {budget.axis}) cannot buy one step of {per_step} pairs: "
            f"raise budgets.{budget.name}.limit in the recipe"
        )
    rival = _rival(recipe)

    def run(name: str, method: Method, seed: int) -> RunPlan:
        return RunPlan(recipe, budget, name, method, seed, store, _fitting(method, loaded), benchmarks)

    return [
        replace(
            run(name, method, seed), rival=run(*rival, seed) if rival and name != rival[0] and method.trains else None
        )
        for seed in range(seeds)
        for name, method in sorted(chosen.items(), key=lambda item: item[1].trains)
        if method.trains or seed == 0
    ]


def _rival(recipe: Recipe) -> tuple[str, Method] | None:
    """The reference method, where the oracle that evaluates compares answers: its verdicts on other pairs tell nothing
    about these. (A score compares any two answers by itself.)"""
    if not make_oracle(recipe.eval_oracle or recipe.oracle).pairwise:
        return None
    method = make_method(recipe, recipe.reference)
    return (recipe.reference, method) if method.trains else None
