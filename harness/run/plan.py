"""What a run consists of: its stages, which of them are done, and what the rest is predicted to cost.

Everything here is hashing and reading small files: no torch, no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.answer.start_policy import start_stage
from harness.benchmark import Benchmark
from harness.budget.budget import Budget
from harness.errors import UserError
from harness.judge.prompts import identity
from harness.methods.base import Method
from harness.methods.endpoint import Remote
from harness.pairs.imported import count_benchmark_overlaps, imported_pairs
from harness.pairs.prompts import splits
from harness.recipe.recipe import PairsSpec, Recipe
from harness.recipe.search import Point, points
from harness.run.plugins import make_method, make_oracle, own_options
from harness.score.results import Trial
from harness.store.json_files import digest, read_json
from harness.store.stages import Stage, Store, known
from sail.types import SAMPLER_VERSION

PAIRS_VERSION, BROUGHT_VERSION, TRAIN_VERSION, TUNE_VERSION, SCORE_VERSION = 1, 2, 2, 1, 3

OWN_DATA = "own data"


def _in_keys(oracle: dict[str, Any]) -> Any:
    """An oracle's identity as keys hold it: name and version alone where it has nothing else to tell."""
    return [oracle["oracle"], oracle["version"]] if set(oracle) == {"oracle", "version"} else oracle


@dataclass
class RunPlan:
    """The stages of one run: recipe x method x seed. ``name`` is the method's, or that of the recipe's variant.
    ``rival``: the reference method's run with this seed, where a pairwise oracle evaluates."""

    recipe: Recipe
    budget: Budget
    name: str
    method: Method
    seed: int
    store: Store
    benchmarks: list[Benchmark]
    wanted: list[str]
    rival: RunPlan | None = None

    @cached_property
    def start(self) -> Stage:
        """The start policy."""
        return start_stage(self.recipe.model, self.recipe.chat_template)

    @cached_property
    def oracle(self) -> dict[str, Any]:
        """Identity of the training oracle, part of every key that depends on its labels."""
        return make_oracle(self.recipe.oracle).identity()

    @cached_property
    def eval_oracle(self) -> dict[str, Any]:
        """Identity of the evaluation oracle."""
        return make_oracle(self.recipe.eval_oracle or self.recipe.oracle).identity()

    @cached_property
    def pairs(self) -> Stage:
        """The preference pairs."""
        if isinstance(self.recipe.data, PairsSpec):
            return self._brought(self.recipe.data)
        data = self.recipe.data.model_dump(mode="json", exclude={"eval_prompts", "tune_prompts", "free"})
        prompts = {k: digest([p["prompt"] for p in v]) for k, v in splits(self.recipe.data).items() if k in _PAIRED}
        inputs = {
            "version": [PAIRS_VERSION, SAMPLER_VERSION],
            "dtype": self.recipe.dtype,
            "start": self.start.key,
            "data": data,
            "prompts": prompts,
            "oracle": _in_keys(self.oracle),
        }
        return Stage("pairs", inputs)

    def _brought(self, data: PairsSpec) -> Stage:
        """Pairs that somebody brings: no oracle labels them, and files count by their contents."""
        inputs = {
            "version": BROUGHT_VERSION,
            "dtype": self.recipe.dtype,
            "start": self.start.key,
            "data": data.model_dump(mode="json", exclude={"train", "test", "free"}),
            "files": imported_pairs(data).identity,
            "max_length": self.recipe.train.max_length,
        }
        return Stage("pairs", inputs)

    @property
    def _labels(self) -> list[Any]:
        """The training oracle, where the key of the pairs does not hold it already."""
        return [_in_keys(self.oracle)] if isinstance(self.recipe.data, PairsSpec) else []

    @cached_property
    def overlap(self) -> dict[str, dict[str, int]]:
        """How many brought training prompts are prompts of the recipe's benchmarks, by benchmark."""
        if not isinstance(self.recipe.data, PairsSpec):
            return {}
        asked = {b.name: prompts for b in self.benchmarks if (prompts := b.prompt_texts())}
        return count_benchmark_overlaps(splits(self.recipe.data)["train"], asked)

    def train(self, point: Point, seed: int) -> Stage:
        """Training at one point of the search with one seed."""
        method = self.configured(point)
        train = self.recipe.train.model_dump(mode="json")
        return Stage(
            "train",
            {
                "version": [TRAIN_VERSION, SAMPLER_VERSION],
                "start": self.start.key,
                "dtype": self.recipe.dtype,
                "method": [method.name, method.version, method.config.model_dump(mode="json")],
                "pairs": self.pairs.key,
                "budget": self.budget.trains_like(self._per_step),
                "train": train,
                "learning_rate": point.learning_rate,
                "seed": seed,
                "max_new_tokens": self.recipe.data.max_new_tokens,
                **({"fractions": self.fractions} if self.fractions else {}),
                **({"oracle": self._labels} if self._labels else {}),
            },
        )

    def configured(self, point: Point) -> Method:
        """The method with the options of a trial."""
        return make_method(self.recipe, self.name, point.options) if point.options else self.method

    @cached_property
    def fractions(self) -> list[float]:
        """Shares of the budget at which a policy is kept on the way, for benchmarks that score the way."""
        kept = {f for b in self.benchmarks for f in b.fractions() if f < 1}
        return sorted(kept) if self.method.trains else []

    def tune(self, point: Point) -> Stage:
        """Gold reward of a trial on the tuning prompts (disjoint from training and from evaluation)."""
        prompts = digest([p["prompt"] for p in splits(self.recipe.data)["tune"]])
        return Stage(
            "tune",
            {
                "version": [TUNE_VERSION, SAMPLER_VERSION],
                "policy": self.train(point, 0).key,
                "prompts": prompts,
            },
        )

    @cached_property
    def points(self) -> list[Point]:
        """The trials of the recorded search: none for a method that does not train."""
        if not self.method.trains:
            return []
        return points(self.recipe.tune, self.name, self.method.grid, own_options(self.recipe, self.name))

    def read_trials(self) -> list[Trial]:
        """Finished trials."""
        rows = []
        for point in self.points:
            if self.store.done(self.tune(point)):
                found = read_json(self.store.path(self.tune(point)) / "scores.json")
                ratio = found.get("perplexity_ratio")
                eligible = ratio is not None and ratio <= self.recipe.tune.max_perplexity_ratio
                rows.append(Trial(**point.record(), seed=0, eligible=eligible, **found))
        return rows

    def best(self) -> Point | None:
        """The trial kept: highest gold reward among eligible ones (among all if none is).

        None while some are open, or if all diverged.
        """
        trials = self.read_trials()
        if len(trials) < len(self.points):
            return None
        scored = [
            (t.eligible, t.gold_reward or 0.0, -t.learning_rate, -place)
            for place, t in enumerate(trials)
            if not t.error  # one trial alone may have no reward
        ]
        return self.points[-max(scored)[3]] if scored else None

    def policy(self) -> Stage | None:
        """The stage of the policy that is evaluated; None while the search is open."""
        if not self.method.trains:
            return self.start
        best = self.best()
        return self.train(best, self.seed) if best else None

    def protocol(self, benchmark: Benchmark) -> dict[str, Any]:
        """Everything but the policy that can change a score: two different hashes never share a column."""
        protocol = benchmark.protocol()
        if self.recipe.engine.name != "transformers":
            protocol |= {"engine": self.recipe.engine.model_dump(mode="json")}
        if benchmark.judged_by != "none":
            protocol |= {"judge": self.judge_of(benchmark)}
        if "start" in benchmark.needs or benchmark.judged_by == "local":
            protocol |= {"baseline_policy": self.start.key}
        if "task" in benchmark.needs:
            chosen = splits(self.recipe.data)
            protocol |= {
                "prompts": digest([p["prompt"] for p in chosen["eval"]]),
                "heldout": self.pairs.key,
                "oracle": _in_keys(self.eval_oracle),
                "start": self.start.key,
                **({"label": OWN_DATA} if isinstance(self.recipe.data, PairsSpec) else {}),
            }
        return protocol

    def judge_of(self, benchmark: Benchmark) -> dict[str, Any] | None:
        """Identity of a benchmark's judge: the local one, or the recipe's endpoint; None if it needs none."""
        if benchmark.judged_by == "none":
            return None
        judge = self.recipe.judge
        if benchmark.judged_by == "endpoint" and judge != "local":
            return {"kind": "endpoint", **judge.identity()}
        return identity(self.start.key)

    def answers(self, benchmark: Benchmark) -> Stage | None:
        """Answers of the policy to a benchmark."""
        policy = self.policy()
        if policy is None:
            return None
        protocol = {k: v for k, v in self.protocol(benchmark).items() if k != "judge"}
        inputs = {"policy": policy.key, "protocol": protocol, "version": SAMPLER_VERSION, "dtype": self.recipe.dtype}
        if self.method.instruction:
            inputs["instruction"] = self.method.instruction
        if isinstance(self.method, Remote):
            inputs["endpoint"] = self.method.config.identity()
        return Stage("answers", inputs)

    def judgments(self, benchmark: Benchmark) -> Stage | None:
        """Judged answers."""
        answers = self.answers(benchmark)
        if answers is None:
            return None
        return Stage("judgments", {"answers": answers.key, "judge": self.judge_of(benchmark)})

    def versus(self, benchmark: Benchmark) -> Stage | None:
        """Verdicts of a pairwise oracle on this run's answers and the reference method's; None while either is open."""
        if self.rival is None or "reference" not in benchmark.needs:
            return None
        sides = [plan.answers(benchmark) for plan in (self, self.rival)]
        if not all(side is not None and self.store.done(side) for side in sides):
            return None
        ours, theirs = (known(side).key for side in sides)
        return Stage("versus", {"version": 1, "ours": ours, "theirs": theirs, "oracle": _in_keys(self.eval_oracle)})

    def open_versus(self) -> list[str]:
        """Benchmarks whose answers are still to be compared with the reference method's."""
        stages = {b.name: self.versus(b) for b in self.benchmarks if b.name in self.wanted}
        return [name for name, stage in stages.items() if stage is not None and not self.store.done(stage)]

    def open_stages(self) -> list[str]:
        """Names of what is still to do, in order. Empty if the run is finished."""
        todo = [name for name, stage in (("start", self.start), ("pairs", self.pairs)) if not self.store.done(stage)]
        for point in self.points:
            if not self.store.done(self.tune(point)):
                todo.append(f"trial {point}")
        policy = self.policy()
        if self.method.trains and self.seed > 0 and (policy is None or not self.store.done(policy)):
            todo.append("train")
        todo += [b.name for b in self.benchmarks if b.name in self.wanted and not self.settled(b)]
        return todo + [f"{name} against {self.recipe.reference}" for name in self.open_versus()]

    def judged(self, benchmark: Benchmark) -> bool:
        """Whether a benchmark's judgments are there."""
        stage = self.judgments(benchmark)
        return stage is not None and self.store.done(stage)

    def unanswered(self, benchmark: Benchmark) -> int:
        """How many calls of its judge found no answer, so that the same command asks them again."""
        return self.store.unanswered(known(self.judgments(benchmark))) if self.judged(benchmark) else 0

    def settled(self, benchmark: Benchmark) -> bool:
        """Whether a benchmark's judgments are there and no call of its judge is open."""
        return self.judged(benchmark) and not self.unanswered(benchmark)

    @property
    def _per_step(self) -> int:
        return self.recipe.train.batch_size * self.recipe.train.gradient_accumulation

    @property
    def setting(self) -> str:
        """What predictions of different runs must share to learn from each other."""
        return digest([self.pairs.key, self.recipe.train.model_dump(mode="json"), self.recipe.dtype])

    @cached_property
    def price(self) -> dict[str, float]:
        """What one stored training pair cost, by quantity: sampling and labelling all answers to all training prompts
        (of brought pairs: their log-probabilities under the start policy), shared out over the pairs. They are there.

        Raises:
            UserError: the pairs were made by a version that did not record it.
        """
        spent = self.store.manifest(self.pairs)["ledger"]["phases"]
        recorded = all("generated" in spent.get(phase, {}) for phase in ("data", "heldout"))
        if not recorded and not isinstance(self.recipe.data, PairsSpec):
            raise UserError(
                f"The store {self.store.root} holds pairs of an earlier version: choose another with --store"
            )
        count = read_json(self.store.path(self.pairs) / "counts.json")["train"]["pairs"]
        return {quantity: amount / count for quantity, amount in spent["data"].items()}

    @property
    def run_key(self) -> str:
        """Hash of everything that decides the result file: the recipe and the manifests (ledgers and environments
        included) of the stages it is made of."""
        stages = [self.pairs, *(self.train(point, 0) for point in self.points)]
        stages += [self.tune(point) for point in self.points]
        stages += [s for b in self.benchmarks for s in (self.policy(), self.answers(b), self.judgments(b)) if s]
        stages += [s for b in self.benchmarks if (s := self.versus(b))]
        made = [self.store.manifest(stage) for stage in stages if self.store.done(stage)]
        facts = [SCORE_VERSION, self.recipe.hash, self.budget.name, self.name, self.seed, made]
        return digest([*facts, *([self.overlap] if self.overlap else [])])

    @property
    def comparison_key(self) -> str:
        """Hash of what two runs must share to stand in one table: start, pairs, budget, training and search."""
        recipe = self.recipe
        shared = [recipe.train.model_dump(mode="json"), recipe.tune.key(), recipe.dtype]
        return digest([self.start.key, self.pairs.key, *self.budget.key(), *shared, *self._labels])


_PAIRED = ("train", "heldout")
