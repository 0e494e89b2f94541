"""What a run consists of: its stages, which of them are done, and what the rest is predicted to cost.

Everything here is hashing and reading small files: no torch, no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness import registry
from harness.benchmark import Benchmark
from harness.budget import Budget
from harness.errors import UserError
from harness.judge.prompts import identity
from harness.methods.base import Method
from harness.models import start_stage
from harness.prompts import splits
from harness.recipe import Recipe
from harness.results import Trial
from harness.store import Stage, Store, digest, read_json

PAIRS_VERSION, TRAIN_VERSION, TUNE_VERSION, SCORE_VERSION = 1, 1, 1, 1


def make_method(recipe: Recipe, name: str) -> Method:
    """The method of a recipe, configured.

    Raises:
        UserError: no such method, or an option that it does not have.
    """
    return _configured(registry.load("methods", name), "Config", recipe.method_options.get(name, {}), f"method {name}")


def make_benchmark(recipe: Recipe, name: str) -> Benchmark:
    """The benchmark of a recipe, configured.

    Raises:
        UserError: no such benchmark, or an option that it does not have.
    """
    options = recipe.benchmarks.get(name) or {}
    return _configured(registry.load("benchmarks", name), "Options", options, f"benchmark {name}")


def _configured(factory: Any, schema: str, options: dict[str, Any], what: str) -> Any:
    from pydantic import ValidationError

    try:
        return factory(getattr(factory, schema).model_validate(options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"Option {key!r} of {what}: {first['msg']}") from None


@dataclass
class RunPlan:
    """The stages of one run: recipe x method x seed."""

    recipe: Recipe
    budget: Budget
    method: Method
    seed: int
    store: Store
    benchmarks: list[Benchmark]
    trials: list[Trial] = field(default_factory=list)

    @cached_property
    def start(self) -> Stage:
        """The start policy."""
        return start_stage(self.recipe.model)

    @cached_property
    def oracle_version(self) -> int:
        """Version of the training oracle, part of every key that depends on its scores."""
        version: int = registry.load("oracles", self.recipe.oracle).version
        return version

    @cached_property
    def pairs(self) -> Stage:
        """The preference pairs."""
        data = self.recipe.data.model_dump(mode="json", exclude={"eval_prompts", "tune_prompts"})
        prompts = {k: digest([p["prompt"] for p in v]) for k, v in splits(self.recipe.data).items() if k in _PAIRED}
        oracle = [self.recipe.oracle, self.oracle_version]
        inputs = {"version": PAIRS_VERSION, "start": self.start.key, "data": data, "prompts": prompts, "oracle": oracle}
        return Stage("pairs", inputs)

    def train(self, learning_rate: float, seed: int) -> Stage:
        """Training with one learning rate and seed."""
        train = self.recipe.train.model_dump(mode="json")
        return Stage(
            "train",
            {
                "version": TRAIN_VERSION,
                "method": [self.method.name, self.method.version, self.method.config.model_dump(mode="json")],
                "pairs": self.pairs.key,
                "budget": [self.budget.axis, self.budget.limit],
                "train": train,
                "learning_rate": learning_rate,
                "seed": seed,
                "max_new_tokens": self.recipe.data.max_new_tokens,
            },
        )

    def tune(self, learning_rate: float) -> Stage:
        """Gold reward of a trial on the tuning prompts (disjoint from training and from evaluation)."""
        prompts = digest([p["prompt"] for p in splits(self.recipe.data)["tune"]])
        return Stage("tune", {"version": TUNE_VERSION, "policy": self.train(learning_rate, 0).key, "prompts": prompts})

    @cached_property
    def learning_rates(self) -> list[float]:
        """The trials of the recorded search: none for a method that does not train."""
        return list(self.recipe.tune.learning_rates) if self.method.trains else []

    def read_trials(self) -> list[Trial]:
        """Finished trials."""
        rows = []
        for rate in self.learning_rates:
            if self.store.done(self.tune(rate)):
                found = read_json(self.store.path(self.tune(rate)) / "scores.json")
                eligible = found["perplexity_ratio"] <= self.recipe.tune.max_perplexity_ratio
                rows.append(Trial(learning_rate=rate, seed=0, eligible=eligible, **found))
        return rows

    def best(self) -> Trial | None:
        """The trial kept: highest gold reward among eligible ones (among all if none is). None while some are open."""
        trials = self.read_trials()
        if not trials or len(trials) < len(self.learning_rates):
            return None
        return max(trials, key=lambda t: (t.eligible, t.gold_reward, -t.learning_rate))

    def policy(self) -> Stage | None:
        """The stage of the policy that is evaluated; None while the search is open."""
        if not self.method.trains:
            return self.start
        best = self.best()
        return self.train(best.learning_rate, self.seed) if best else None

    def protocol(self, benchmark: Benchmark) -> dict[str, Any]:
        """Everything but the policy that can change a score: two different hashes never share a column."""
        protocol = benchmark.protocol()
        if benchmark.judged:
            protocol |= {"judge": self.judge, "baseline_policy": self.start.key}
        if benchmark.on_task:
            chosen = splits(self.recipe.data)
            protocol |= {
                "prompts": digest([p["prompt"] for p in chosen["eval"]]),
                "heldout": self.pairs.key,
                "oracle": [self.recipe.oracle, self.oracle_version],
                "start": self.start.key,
            }
        return protocol

    @cached_property
    def judge(self) -> dict[str, Any]:
        """Identity of the judge."""
        return identity(self.start.key)

    def answers(self, benchmark: Benchmark) -> Stage | None:
        """Answers of the policy to a benchmark."""
        policy = self.policy()
        if policy is None:
            return None
        protocol = {k: v for k, v in self.protocol(benchmark).items() if k != "judge"}
        return Stage("answers", {"policy": policy.key, "protocol": protocol})

    def judgments(self, benchmark: Benchmark) -> Stage | None:
        """Judged answers."""
        answers = self.answers(benchmark)
        if answers is None:
            return None
        return Stage("judgments", {"answers": answers.key, "judge": self.judge if benchmark.judged else None})

    def open_stages(self) -> list[str]:
        """Names of what is still to do, in order. Empty if the run is finished."""
        todo = [name for name, stage in (("start", self.start), ("pairs", self.pairs)) if not self.store.done(stage)]
        for rate in self.learning_rates:
            if not self.store.done(self.tune(rate)):
                todo.append(f"trial lr={rate:g}")
        policy = self.policy()
        if self.method.trains and self.seed > 0 and (policy is None or not self.store.done(policy)):
            todo.append("train")
        for benchmark in self.benchmarks:
            stage = self.judgments(benchmark)
            if stage is None or not self.store.done(stage):
                todo.append(benchmark.name)
        return todo

    @property
    def run_key(self) -> str:
        """Hash of everything that decides the result file. Only for a finished run."""
        keys = [stage.key for b in self.benchmarks if (stage := self.judgments(b))]
        return digest([SCORE_VERSION, self.recipe.hash, self.budget.name, self.method.name, self.seed, keys])

    def predicted(self, *, pairs: bool = True) -> dict[str, int]:
        """Upper bounds on the spending of what is open: tokens generated, pairs trained, judge calls.

        ``pairs=False`` leaves out sampling the shared pairs (another run of the comparison does it).
        """
        todo = set(self.open_stages())
        data, per_answer = self.recipe.data, self.recipe.data.max_new_tokens
        spent = self.budget.limit if self.budget.axis == "pairs" else self.budget.limit * self.recipe.train.batch_size
        trainings = sum(name.startswith("trial") or name == "train" for name in todo)
        generated = 0
        if pairs and "pairs" in todo:
            generated += (data.train_prompts + data.heldout_prompts) * data.samples * per_answer
        generated += trainings * int(2 * self.method.samples_online() * spent + data.tune_prompts) * per_answer
        calls = 0
        for benchmark in self.benchmarks:
            if benchmark.name in todo:
                tokens, asked = benchmark.predicted(data.eval_prompts, self.method.trains)
                generated, calls = generated + tokens, calls + asked
        return {"generated tokens": generated, "trained pairs": trainings * spent, "judge calls": calls}


_PAIRED = ("train", "heldout")


def make_runs(
    recipe: Recipe, budget_name: str, methods: list[str], seeds: int, benchmarks: list[str], store: Store
) -> list[RunPlan]:
    """All runs of a comparison, seed by seed, the control first.

    Raises:
        UserError: an unknown budget, method, benchmark or oracle.
    """
    from harness.errors import unknown

    if budget_name not in recipe.budgets:
        raise unknown("budget", budget_name, recipe.budgets)
    budget = Budget.of(budget_name, recipe.budgets[budget_name])
    registry.load("oracles", recipe.oracle)
    splits(recipe.data)
    loaded = [make_benchmark(recipe, name) for name in benchmarks]
    chosen = [make_method(recipe, name) for name in methods]
    per_step = recipe.train.batch_size * recipe.train.gradient_accumulation
    if any(m.trains for m in chosen) and budget.steps(per_step) < 1:
        raise UserError(
            f"Budget {budget.name!r} ({budget.limit} {budget.axis}) cannot buy one step of {per_step} pairs: "
            f"raise budgets.{budget.name}.limit in the recipe"
        )
    chosen.sort(key=lambda m: m.trains)
    return [
        RunPlan(recipe, budget, method, seed, store, loaded)
        for seed in range(seeds)
        for method in chosen
        if method.trains or seed == 0
    ]
