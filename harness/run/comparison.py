"""What all runs of a comparison share, resolved once: budget, methods, benchmarks, first stages, protocols.

Whatever is wrong with a recipe is reported here, before any work. Hashing and reading small files: no torch, no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.answer.start_policy import start_stage
from harness.benchmark import Benchmark
from harness.budget.budget import Budget
from harness.budget.spec import named_budgets
from harness.errors import Problem, Problems, UserError, unknown
from harness.methods.base import Method
from harness.oracles.none import NONE
from harness.pairs.imported import count_benchmark_overlaps, imported_stage
from harness.pairs.prompts import splits
from harness.recipe.recipe import Recipe
from harness.recipe.search import points
from harness.recipe.train import TrainSpec
from harness.run.configure import make_benchmark, make_method, make_oracle, own_options
from harness.run.nodes import Node
from harness.run.plugin_check import oracle_identity, own_protocol, prompts_of
from harness.run.plugins import plugins
from harness.run.stages import judge_of, pairs_stage, protocol_of, training_labels
from harness.store.json_files import digest, read_json, write_json
from harness.store.stages import Stage, Store

ORACLE_FIX = "set oracle: {name: reward_model, options: {model: DIR}} (sail-bench train-reward makes one)"


@dataclass(frozen=True)
class Facts:
    """What keys and pages need to know of a comparison beside its recipe; it can be written as JSON.

    Attributes:
        start: the start policy; pairs: the preference pairs.
        oracle: identity of the training oracle; eval_oracle: of the one that evaluates.
        protocols: by benchmark, everything but the policy that can change its score.
        judges: by benchmark, the identity of its judge; None if it needs none.
    """

    start: Node
    pairs: Node
    oracle: dict[str, Any]
    eval_oracle: dict[str, Any]
    protocols: Mapping[str, dict[str, Any]]
    judges: Mapping[str, dict[str, Any] | None]

    def dump(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "start": self.start.dump(),
            "pairs": self.pairs.dump(),
            "oracle": self.oracle,
            "eval_oracle": self.eval_oracle,
            "protocols": dict(self.protocols),
            "judges": dict(self.judges),
        }

    @classmethod
    def load(cls, value: Mapping[str, Any]) -> Facts:
        """From its JSON form."""
        return cls(**dict(value) | {"start": Node.load(value["start"]), "pairs": Node.load(value["pairs"])})


@dataclass(frozen=True)
class Comparison:
    """A recipe under one budget.

    Attributes:
        names: the rows asked for (methods, variants, endpoints).
        methods: by name; ``reference`` is among them where it is set.
        benchmarks: those of the recipe and those asked for; ``wanted``: names of those asked for.
        reference: the recipe's reference method, where the oracle that evaluates compares answers, so that its verdicts
            on other pairs say nothing about these. (A score compares any two answers by itself.) Else None.
    """

    recipe: Recipe
    budget: Budget
    store: Store
    names: tuple[str, ...]
    methods: Mapping[str, Method]
    benchmarks: tuple[Benchmark, ...]
    wanted: tuple[str, ...]
    reference: str | None
    facts: Facts

    @cached_property
    def overlap(self) -> dict[str, dict[str, int]]:
        """How many imported training prompts are prompts of the recipe's benchmarks, by benchmark."""
        stage = self.overlap_stage
        if stage is None:
            return {}

        def build(work: Path) -> None:
            rows = splits(self.recipe.data, self.store)["train"]
            write_json(work / "counts.json", count_benchmark_overlaps(rows, self._benchmark_prompts))

        counts: dict[str, dict[str, int]] = read_json(self.store.get(stage, build) / "counts.json")
        return counts

    @cached_property
    def overlap_stage(self) -> Stage | None:
        """The stage that holds :attr:`overlap`; None where nothing is imported, or no prompts are known."""
        if not self.recipe.data.imported or not self._benchmark_prompts:
            return None
        prompts = {name: digest(list(texts)) for name, texts in self._benchmark_prompts.items()}
        return Stage("overlap", {"imported": imported_stage(self.recipe.data).key, "prompts": prompts})

    @property
    def caches(self) -> set[str]:
        """Keys of stages that belong to no run: the cleaned pairs, and their overlap."""
        cleaned = imported_stage(self.recipe.data) if self.recipe.data.imported else None
        return {stage.key for stage in (cleaned, self.overlap_stage) if stage is not None}

    @cached_property
    def _benchmark_prompts(self) -> dict[str, Sequence[str]]:
        return {b.name: prompts for b in self.benchmarks if (prompts := prompts_of(b))}

    @cached_property
    def key(self) -> str:
        """Hash of what two runs must share to stand in one table: start, pairs, budget, training and search."""
        recipe, facts = self.recipe, self.facts
        shared = [recipe.train.model_dump(mode="json"), recipe.tune.key(), recipe.arithmetic]
        labels = training_labels(recipe, facts.oracle)
        return digest([facts.start.key, facts.pairs.key, *self.budget.key(), *shared, *labels])

    @cached_property
    def setting(self) -> str:
        """What predictions of different runs must share to learn from each other."""
        return digest([self.facts.pairs.key, self.recipe.train.model_dump(mode="json"), self.recipe.arithmetic])


def facts_of(recipe: Recipe, benchmarks: Sequence[Benchmark], problems: Problems) -> Facts:
    """Resolve the first stages, the oracles and the protocols of a recipe. Oracles and benchmarks report here what they
    miss, before any work.

    Args:
        recipe: what is compared.
        benchmarks: those of the recipe and those asked for.
        problems: those of its parts; one without any problem is complete.

    Raises:
        UserError: with all problems: the model, a file of the data, an oracle or the data of a benchmark is not there.
    """
    with problems.of("oracle"):
        oracle = oracle_identity(make_oracle(recipe.oracle))
    with problems.of("eval_oracle"):
        eval_oracle = oracle_identity(make_oracle(recipe.eval_oracle or recipe.oracle))
    with problems.of("model"):
        start = Node("start", start_stage(recipe.model, recipe.chat_template, recipe.chat_date))
    if complete := not problems.all:
        with problems.of("data"):
            pairs = Node("pairs", pairs_stage(recipe, start.stage, oracle), (start.key,))
        complete = not problems.all
    protocols = {}
    for b in benchmarks:
        with problems.of(f"benchmark {b.name}"):
            protocols[b.name] = (
                protocol_of(b, recipe, start.stage, pairs.stage, eval_oracle) if complete else own_protocol(b)
            )
    problems.check()
    judges = {b.name: judge_of(b, recipe, start.stage) for b in benchmarks}
    return Facts(start, pairs, oracle, eval_oracle, protocols, judges)


def resolve(
    recipe: Recipe,
    budget_name: str,
    names: Sequence[str],
    wanted: Sequence[str],
    store: Store,
    facts: Facts | None = None,
) -> Comparison:
    """Resolve a comparison, and refuse what cannot work, all problems at once.

    Args:
        recipe: what is compared.
        budget_name: one of the recipe's budgets or of the named ones.
        names: rows: methods, variants, endpoints.
        wanted: benchmarks to run; those of the recipe are known beside them.
        store: where finished stages are.
        facts: of the same recipe and benchmarks, if they were resolved before.

    Raises:
        UserError: an unknown budget, method, benchmark or oracle, or settings that do not fit each other.
    """
    problems = Problems()
    with problems.of("budget"):
        budget = _budget(recipe, budget_name)
    with problems.of("data"):
        splits(recipe.data, store)
    for key, spec in (("oracle", recipe.oracle), ("eval_oracle", recipe.eval_oracle or recipe.oracle)):
        with problems.of(key):
            make_oracle(spec)
    benchmarks: list[Benchmark] = []
    for name in dict.fromkeys([*recipe.benchmarks, *wanted]):
        with problems.of(f"benchmark {name}"):
            benchmarks.append(make_benchmark(recipe, name))
    methods: dict[str, Method] = {}
    for name in names:
        with problems.of(f"method {name}"):
            methods[name] = make_method(recipe, name)
    if facts is None:
        _check_benchmarks(recipe, benchmarks, problems)
    with problems.of("recipe"):
        _check_row_names(recipe)
    with problems.of("oracle"):
        _check_oracles(recipe, methods, [b.name for b in benchmarks if "task" in b.needs and b.name in wanted])
    if not problems.all:
        with problems.of("budget"):
            _check_budget(recipe, budget, methods)
    with problems.of("reference"):
        reference = _reference(recipe)
        if reference and reference not in methods:
            methods[reference] = make_method(recipe, reference)
    facts = facts or facts_of(recipe, benchmarks, problems)
    problems.check()
    return Comparison(recipe, budget, store, tuple(names), methods, tuple(benchmarks), tuple(wanted), reference, facts)


def _budget(recipe: Recipe, name: str) -> Budget:
    offered = named_budgets() | recipe.budgets
    if name not in offered:
        raise unknown("budget", name, offered)
    return Budget.of(name, offered[name], free_data=recipe.data.free)


def _check_benchmarks(recipe: Recipe, benchmarks: Sequence[Benchmark], problems: Problems) -> None:
    """Add the benchmarks that need a judge behind an endpoint, where the recipe has none."""
    for benchmark in benchmarks:
        if benchmark.judged_by == "endpoint" and recipe.judge == "local":
            sentence = f"The benchmark {benchmark.name} needs a judge behind an endpoint"
            problems.add([Problem("judge", sentence, "set judge: {model: NAME}")])


def _check_row_names(recipe: Recipe) -> None:
    for kind, names in (("variant", recipe.variants), ("endpoint", recipe.endpoints)):
        for name in names:
            if name in plugins("methods"):
                raise UserError(
                    f"The {kind} {name!r} has the name of an installed method: choose another in the recipe"
                )


def _check_oracles(recipe: Recipe, methods: Mapping[str, Method], task_benchmarks: Sequence[str]) -> None:
    """Refuse a recipe in which answers will have to be scored that its oracles cannot score."""
    oracle, eval_oracle = recipe.oracle.name, (recipe.eval_oracle or recipe.oracle).name
    if not recipe.data.imported:
        if oracle == NONE:
            raise UserError("The task constraints samples pairs that an oracle must label: set oracle: constraints")
        return
    if "constraints" in (oracle, eval_oracle):
        raise UserError(f"The oracle constraints knows its own prompts only, not those of data.train: {ORACLE_FIX}")
    if oracle == NONE:
        for name, method in methods.items():
            if method.spending().labelled:
                raise UserError(f"The method {name} asks an oracle for labels and the recipe has none: {ORACLE_FIX}")
            if method.trains and len(points(recipe.tune, name, method.grid, own_options(recipe, name))) > 1:
                raise UserError(
                    f"A search needs a reward and the recipe has no oracle: leave one trial, or {ORACLE_FIX}"
                )
    if eval_oracle == NONE and task_benchmarks:
        raise UserError(f"The benchmark {task_benchmarks[0]} needs a reward and the recipe has no oracle: {ORACLE_FIX}")


def _check_budget(recipe: Recipe, budget: Budget, methods: Mapping[str, Method]) -> None:
    per_step = recipe.train.pairs_per_step
    if any(m.trains for m in methods.values()) and budget.steps(per_step) == 0:
        raise UserError(
            f"Budget {budget.name!r} ({budget.limit} {budget.axis}) cannot buy one step of {per_step} pairs: "
            f"raise budgets.{budget.name}.limit in the recipe"
        )
    for name, method in methods.items():
        if method.trains:
            _check_warmup(recipe.train, budget, name, method)
            _check_processes(recipe, name, method)


def _check_processes(recipe: Recipe, name: str, method: Method) -> None:
    """Refuse several processes for a method that trains in one, and an engine that would have to serve all of them."""
    if recipe.train.processes == 1:
        return
    if not method.distributed:
        raise UserError(
            f"The method {name} trains in one process, and train.processes is {recipe.train.processes}: leave the "
            "method out, or set train.processes: 1"
        )
    if recipe.engine.name != "transformers" and method.spending().sampled:
        raise UserError(
            f"The method {name} samples while it trains, which the engine {recipe.engine.name} does for one process "
            f"alone, and train.processes is {recipe.train.processes}: set engine: {{name: transformers}}, or "
            "train.processes: 1"
        )
    if recipe.train.sharding == "zero3":
        _check_zero3(name, method)


def _check_zero3(name: str, method: Method) -> None:
    if method.spending().sampled:
        raise UserError(
            f"The method {name} samples while it trains, which train.sharding: zero3 does not let it: set sharding: "
            "fsdp2, or leave sharding out"
        )
    if find_spec("deepspeed") is None:
        raise UserError(
            "train.sharding: zero3 needs DeepSpeed: install it with python -m pip install deepspeed, or set sharding: "
            "fsdp2"
        )


def _check_warmup(train: TrainSpec, budget: Budget, name: str, method: Method) -> None:
    """Refuse a warm-up in which all steps that the budget fixes, or all of a round, would go by."""
    steps = budget.steps(train.pairs_per_step)
    if not train.warmup or steps is None:
        return
    rounds = method.schedules()
    length = max(1, steps // rounds)
    if train.warmup_steps(length) >= length:
        part = f" in a round of {name} ({rounds} rounds)" if rounds > 1 else ""
        raise UserError(
            f"train.warmup: {train.warmup:g} would not end before training does: the budget {budget.name!r} "
            f"({budget.limit:g} {budget.axis}) buys {length:,} steps{part}: lower it, or raise the budget's limit"
        )


def _reference(recipe: Recipe) -> str | None:
    if not make_oracle(recipe.eval_oracle or recipe.oracle).pairwise:
        return None
    return recipe.reference if make_method(recipe, recipe.reference).trains else None
