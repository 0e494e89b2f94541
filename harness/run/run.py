"""One run in a process of its own: prepare, search, train, answer and judge. Each finished stage stays finished."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.answer.chat import Prompt, turns
from harness.benchmark import Benchmark, EvalContext
from harness.budget.calibration import Calibration
from harness.budget.forecast import Corrections, Lengths
from harness.budget.ledger import AXES, Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.methods.endpoint import Remote
from harness.oracles.base import Oracle
from harness.oracles.metered import MeteredOracle
from harness.oracles.none import NONE
from harness.pairs.imported import brought
from harness.pairs.prompts import splits
from harness.recipe.recipe import DataSpec, PairsSpec
from harness.recipe.search import Point
from harness.run.plan import RunPlan
from harness.run.plugins import make_oracle
from harness.run.spending import expect
from harness.store.environment import environment
from harness.store.json_files import read_json, read_rows, write_json, write_rows
from harness.store.row_cache import RowCache
from harness.store.stages import Stage, known
from harness.train.context import TrainContext
from harness.train.trainer import check_finite
from sail.types import Request

if TYPE_CHECKING:
    from harness.answer.client import Call, Client, Reply


class Run:
    """Works through the open stages of a :class:`RunPlan`; models are loaded when first needed, and once."""

    def __init__(self, plan: RunPlan, emit: Callable[[str, Any], None]) -> None:
        self.plan, self.recipe, self.store = plan, plan.recipe, plan.store
        self.emit = emit
        self.cache = RowCache(self.store.root / "rows.sqlite", self._keep_ledger)
        self.ledger = Ledger()
        self.meter = Meter(self.ledger)
        self._ledger_file: Path | None = None
        self._shown = ""
        self._unanswered = 0  # calls of the judge in the stage under way

    @cached_property
    def start_dir(self) -> Path:
        """Directory of the start policy."""
        from harness.answer.start_policy import build_start

        self.emit("stage", ("start policy", None))
        return build_start(self.recipe.model, self.store, self.recipe.chat_template)

    @cached_property
    def tokenizer(self) -> Any:
        """Tokenizer of the start policy, its chat template checked."""
        from harness.answer.load import load_tokenizer
        from harness.answer.template_check import check_template, eos_ids

        tokenizer = load_tokenizer(self.start_dir)
        check_template(tokenizer, eos_ids(self.start_dir, tokenizer))
        return tokenizer

    @cached_property
    def start(self) -> Any:
        """The start policy in memory: sampler, reference, baseline and judge."""
        from harness.answer.load import load_model

        return self._policy(load_model(self.start_dir, dtype=self.recipe.dtype), self.plan.start.key)

    @cached_property
    def _oracles(self) -> tuple[Oracle, Oracle]:
        """The training and the evaluation oracle; one object if they are the same."""
        training = make_oracle(self.recipe.oracle)
        spec = self.recipe.eval_oracle
        evaluation = training if spec is None or spec == self.recipe.oracle else make_oracle(spec)
        training.cache = evaluation.cache = self.cache
        training.attach = evaluation.attach = self.meter.attach
        return training, evaluation

    @property
    def oracle(self) -> MeteredOracle:
        """The training oracle, metered into the current ledger."""
        return MeteredOracle(self._oracles[0], self.ledger, self.meter)

    def _policy(self, model: Any, identity: str) -> Any:
        from harness.answer.policy import Policy

        size = self.recipe.generation_batch_size
        return Policy(model, self.tokenizer, identity, meter=self.meter, cache=self.cache, batch_size=size)

    def _served(self, policy: Any) -> Any:
        """The policy as evaluation asks it: by the recipe's engine."""
        engine = self.recipe.engine
        if engine.name == "transformers":
            return policy
        from harness.answer.vllm_policy import VllmPolicy

        return VllmPolicy.over(policy, engine.options)

    @cached_property
    def _start_served(self) -> Any:
        return self._served(self.start)

    def _open_ledger(self, work: Path | None, before: Stage | None = None) -> Ledger:
        """The ledger of a stage, charged from now on by the meters of all loaded models.

        With a work folder it goes on from what an interrupted attempt had spent on the rows that were kept, and from
        that of the finished stage ``before`` that is built again.
        """
        self._ledger_file = work / "ledger.json" if work else None
        kept: Any = {}
        if self._ledger_file is not None and self._ledger_file.is_file():
            kept = read_json(self._ledger_file)
        elif before is not None and self.store.done(before):
            kept = self.store.manifest(before).get("ledger", {})
        self.ledger = self.meter.ledger = Ledger.load(kept) if kept else Ledger()
        return self.ledger

    def _keep_ledger(self) -> None:
        """Write the ledger down whenever rows became durable."""
        if self._ledger_file is not None:
            self.meter.flush()
            write_json(self._ledger_file, self.ledger.dump())

    def _spent(self) -> dict[str, Any]:
        """Manifest entries of a finished stage."""
        self.ledger.note_memory()
        if self._ledger_file is not None:
            self._ledger_file.unlink(missing_ok=True)
        self._ledger_file = None
        return {"ledger": self.ledger.dump(), "environment": environment()}

    def pairs(self) -> Path:
        """The folder of the preference pairs."""

        data = self.recipe.data
        build = partial(self._brought, data) if isinstance(data, PairsSpec) else partial(self._sampled, data)
        return self.store.get(self.plan.pairs, build)

    def _sampled(self, data: DataSpec, work: Path) -> dict[str, Any]:
        from harness.pairs.sampled import sample_pairs

        self._open_ledger(None)  # every answer carries its cost
        chosen = splits(data)
        asked = (len(chosen["train"]) + len(chosen["heldout"])) * data.samples
        policy = self.start
        self.emit("stage", ("preference pairs", asked))
        counts = {}
        for name in ("train", "heldout"):
            with self.meter.phase("data" if name == "train" else name):
                rows, ties = sample_pairs(policy, self.oracle, chosen[name], data, self._tick)
                write_rows(work / f"{name}.jsonl", rows)
                counts[name] = {"pairs": len(rows), "ties": ties}
        write_json(work / "counts.json", counts)
        for name, key in (("train", "train_prompts"), ("heldout", "heldout_prompts")):
            if not counts[name]["pairs"]:
                raise UserError(f"Sampling gave no {name} pair (all answers score alike): raise data.{key}")
        return self._spent()

    def _brought(self, data: PairsSpec, work: Path) -> dict[str, Any]:
        from harness.pairs.tokenised import Limits, readable, stored_pairs, window

        self._open_ledger(None)  # every log-probability carries its cost
        found, policy, train = brought(data), self.start, self.recipe.train
        holds = window(policy)
        limits = Limits(data.max_prompt_length or holds, min(train.max_length, holds), data.too_long == "cut")
        self.emit("stage", ("preference pairs", 2 * (len(found.parts["train"]) + len(found.parts["heldout"]))))
        counts: dict[str, Any] = {"files": found.counts, "source": found.identity}
        kept = {}
        for name in ("train", "heldout"):
            with self.meter.phase("data" if name == "train" else name):
                size = self.recipe.scoring_batch_size
                rows, lost = stored_pairs(policy, found.parts[name], limits, size, self._tick)
            write_rows(work / f"{name}.jsonl", rows)
            kept[name], counts[name] = [r["id"] for r in rows], {"pairs": len(rows), "left_out": lost}
        for name in ("tune", "eval"):
            rows, lost = readable(policy, found.parts[name], min(limits.prompt, holds - data.max_new_tokens))
            kept[name], counts[name] = [r["id"] for r in rows], {"prompts": len(rows), "left_out": lost}
        for name, ids in kept.items():
            if not ids:
                why = ", ".join(f"{count} {reason}" for reason, count in counts[name]["left_out"].items())
                raise UserError(
                    f"Of the {name} rows none is left ({why}): raise train.max_length, data.max_prompt_length or "
                    f"data.{name}_prompts"
                )
        write_json(work / "kept.json", kept)
        write_json(work / "counts.json", counts)
        return self._spent()

    @cached_property
    def prompts(self) -> dict[str, list[Prompt]]:
        """The recipe's prompts by part; of brought ones those that the pairs stage kept."""
        found, file = splits(self.recipe.data), self.pairs() / "kept.json"
        if not file.is_file():
            return found
        return {part: [p for p in found[part] if p["id"] in ids] for part, ids in read_json(file).items()}

    def train(self, point: Point, seed: int) -> Path:
        """The folder of a trained policy."""
        stage = self.plan.train(point, seed)
        return self.store.get(stage, lambda work: self._train(work, point, seed))

    def _train(self, work: Path, point: Point, seed: int) -> dict[str, Any]:
        from harness.answer.load import load_model

        plan, recipe, budget = self.plan, self.recipe, self.plan.budget
        rows = read_rows(self.pairs() / "train.jsonl")
        ledger = self._open_ledger(None)  # checkpoints carry it
        calibration = Calibration(self.store.root, environment())
        lengths = Lengths.of(rows, recipe.train.batch_size, recipe.train.max_length)
        method = plan.configured(point)
        corrections = calibration.corrections(plan.setting, plan.name)
        expected = expect(plan, method, corrections, lengths, calibration.shape(plan.setting))
        plain = expect(plan, method, Corrections(), lengths)  # what trains must not depend on what a machine ran before
        self.meter.charge_stored_pairs(rows, plan.price, recipe.train.max_length)
        context = TrainContext(
            start=self.start_dir,
            tokenizer=self.tokenizer,
            pairs=rows,
            prompts={p["id"]: p for p in self.prompts["train"]},
            oracle=self.oracle,
            meter=self.meter,
            ledger=ledger,
            budget=budget,
            seed=seed,
            learning_rate=point.learning_rate,
            max_new_tokens=recipe.data.max_new_tokens,
            train=recipe.train,
            directory=work,
            load_model=lambda folder=None: self.meter.attach(load_model(folder or self.start_dir, dtype=recipe.dtype)),
            on_step=lambda step: self.emit("at", round(100 * budget.share(ledger))),
            per_step={axis: plain.total(1, axis) for axis in AXES},
            fractions=plan.fractions,
        )
        self.emit("stage", (f"train {point}, % of {budget.limit:g} {budget.axis}", 100))
        with self.meter.enforce(budget):
            folder = method.train(context)
        if folder is None:
            raise UserError(f"Method {plan.name!r} returned no policy: train() must return its folder")
        context.tick()
        check_finite(folder)
        if folder != work / "policy":
            folder.rename(work / "policy")
        write_json(work / "log.json", context.log)
        steps = expected.steps(budget) if expected.covers(budget) else 0
        predicted = {axis: round(expected.total(steps, axis), 3) for axis in AXES if steps and axis in expected.step}
        shape = self.meter.trained
        if shape is not None and ledger.get("train", "steps"):
            calibration.record(
                plan.setting, plan.name, shape, ledger, lambda rates: expect(plan, method, rates, lengths, shape)
            )
        ledger.progress = {}
        return self._spent() | {"predicted": predicted}

    def tune(self, point: Point) -> None:
        """Score one trial on the tuning prompts."""

        def build(work: Path) -> dict[str, Any]:
            try:
                folder = self.train(point, 0)
            except FloatingPointError as error:
                write_json(work / "scores.json", {"error": str(error)})
                return self._spent()
            policy = self._trained(folder, self.plan.train(point, 0))
            self._open_ledger(work)
            write_json(work / "scores.json", self._tuning_scores(policy))
            return self._spent()

        self.store.get(self.plan.tune(point), build)

    def _tuning_scores(self, policy: Any) -> dict[str, float]:
        from harness.answer.chat import render

        prompts = self.prompts["tune"]
        encoded = [render(self.tokenizer, turns(p)) for p in prompts]
        asked = [
            Request(tuple(ids), self.recipe.data.max_new_tokens, 1.0, ("tune", p["id"]))
            for p, ids in zip(prompts, encoded, strict=True)
        ]
        self.emit("stage", ("score trial", len(asked)))
        with self.meter.phase("eval"):
            ours = policy.sample(asked, self._tick)
            base = self.start.sample(asked)
            rows = [(ids, c.ids) for ids, c in zip(encoded, ours, strict=True)]
            logps = self.start.token_logps(rows, self.recipe.scoring_batch_size)
        nll = -sum(map(sum, logps)) / sum(map(len, logps))
        own = -sum(c.logp for c in base) / sum(len(c.ids) for c in base)
        found = {"perplexity_ratio": round(math.exp(nll - own), 6)}
        if self.recipe.oracle.name == NONE:
            return found
        texts, theirs = [policy.text(c) for c in ours], [policy.text(c) for c in base]
        reward, _ = self.oracle.versus(prompts, texts, theirs)
        known = [r for r in reward if not math.isnan(r)]
        if not known:
            raise UserError("The oracle gave no verdict on any tuning prompt: take another model, or raise max_tokens")
        return {"gold_reward": round(sum(known) / len(known), 6), **found}

    def _trained(self, folder: Path, stage: Stage) -> Any:
        from harness.answer.load import load_model

        return self._policy(load_model(self.start_dir, folder / "policy", self.recipe.dtype), stage.key)

    def evaluate(self) -> None:
        """Answer and judge every benchmark that is still open."""
        todo = [b for b in self.plan.benchmarks if b.name in self.plan.wanted and not self.plan.settled(b)]
        if not todo:
            return
        stage = known(self.plan.policy())
        method = self.plan.method
        policy = self._served(self._trained(self.store.path(stage), stage)) if method.trains else self._start_served
        if isinstance(method, Remote):
            from harness.answer.endpoint_policy import EndpointPolicy

            policy = EndpointPolicy(method.config, self.tokenizer, meter=self.meter, cache=self.cache)
        if method.instruction:
            policy = policy.instructed(method.instruction)
        context = self._context(policy)
        self._answer_together(todo, context)
        for benchmark in todo:
            self._benchmark(benchmark, context)

    def _context(self, policy: Any) -> EvalContext:
        from harness.judge.local import LocalJudge

        training, evaluation = self._oracles

        def metered(oracle: Oracle) -> MeteredOracle:
            return MeteredOracle(oracle, Ledger(), self.meter, "eval")  # evaluation is not the method's spending

        return EvalContext(
            policy=policy,
            start=self._start_served,
            judge=LocalJudge(self.start, self.recipe.scoring_batch_size),
            oracle=metered(evaluation),
            training_oracle=None if training is evaluation or training.name == NONE else metered(training),
            prompts=self.prompts["eval"],
            ask=self._ask,
            kept=lambda fraction: self._kept(fraction, policy),
            heldout_pairs=read_rows(self.pairs() / "heldout.jsonl"),
            scoring_batch_size=self.recipe.scoring_batch_size,
        )

    @cached_property
    def _judge(self) -> Client:
        """The recipe's judge; calls and tokens go to the ledger as they are paid for."""
        from harness.answer.client import Client

        def paid(reply: Reply) -> None:
            self.meter.ledger.add("judge", "calls", 1)
            self.meter.ledger.add("judge", "tokens", reply.tokens_in + reply.tokens_out)

        assert self.recipe.judge != "local"
        return Client(self.recipe.judge, self.cache, paid)

    def _ask(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies of the recipe's judge."""
        self._expect(len(calls))
        replies = self._judge.ask(calls, lambda done: self.emit("at", done))
        self._unanswered += sum(reply.unanswered for reply in replies)
        return replies

    def _kept(self, fraction: float, final: Any) -> Any:
        """The policy at a share of the budget: the final one at 1 (and for a method that does not train)."""
        if fraction >= 1 or not self.plan.method.trains:
            return final
        from harness.answer.load import load_model

        stage = known(self.plan.policy())
        folder = self.store.path(stage) / "fractions" / f"{fraction:g}"
        if not folder.is_dir():
            return None
        return self._served(
            self._policy(load_model(self.start_dir, folder, self.recipe.dtype), f"{stage.key}@{fraction:g}")
        )

    def _answer_together(self, todo: list[Benchmark], context: EvalContext) -> None:
        """Sample the first answers of all benchmarks in shared batches; the answer stages then find them cached."""
        unanswered = [b for b in todo if not self.store.done(known(self.plan.answers(b)))]
        requests = [q for b in unanswered for q in b.requests(context)]
        if not requests:
            return
        self._open_ledger(self.store.work(known(self.plan.answers(unanswered[0]))))  # the first one pays for all
        self.emit("stage", ("answers", len(requests)))
        with self.meter.phase("eval"):
            context.policy.sample(requests, self._tick)
        self._keep_ledger()

    def _benchmark(self, benchmark: Benchmark, context: EvalContext) -> None:
        context.progress, context.expect = self._tick, self._expect

        def answer(work: Path) -> dict[str, Any]:
            self._show(f"{benchmark.name}: answers")
            self._open_ledger(work)
            write_rows(work / "rows.jsonl", benchmark.answer(context))
            return self._spent()

        answers = self.store.get(known(self.plan.answers(benchmark)), answer)

        judgments = known(self.plan.judgments(benchmark))

        def judge(work: Path) -> dict[str, Any]:
            self._show(f"{benchmark.name}: judging" if benchmark.judged_by != "none" else f"{benchmark.name}: rows")
            self._open_ledger(work, judgments)
            self._unanswered = 0
            write_rows(work / "rows.jsonl", benchmark.judge(read_rows(answers / "rows.jsonl"), context))
            return self._spent() | ({"unanswered": self._unanswered} if self._unanswered else {})

        self.store.get(judgments, judge)

    def _versus(self, benchmark: Benchmark) -> None:
        """Ask a pairwise oracle about the policy's answers and the reference method's, in both orders."""
        stage, rival = self.plan.versus(benchmark), self.plan.rival
        if stage is None or rival is None:
            return

        def build(work: Path) -> dict[str, Any]:
            self._show(f"{benchmark.name}: against {rival.name}")
            self._open_ledger(work)
            ours, theirs = (
                {r["id"]: r["text"] for r in read_rows(self.store.path(side) / "rows.jsonl") if "text" in r}
                for side in (known(self.plan.answers(benchmark)), known(rival.answers(benchmark)))
            )
            prompts = [p for p in self.prompts["eval"] if p["id"] in ours and p["id"] in theirs]
            said = [[side[p["id"]] for p in prompts] for side in (ours, theirs)]
            won, _ = MeteredOracle(self._oracles[1], Ledger(), self.meter, "eval").versus(prompts, *said)
            rows = [{"id": p["id"], "won": None if math.isnan(w) else w} for p, w in zip(prompts, won, strict=True)]
            write_rows(work / "rows.jsonl", rows)
            return self._spent()

        self.store.get(stage, build)

    def _show(self, stage: str) -> None:
        """A stage of which nobody has said yet how long it is."""
        self._shown = stage
        self.emit("stage", (stage, None))

    def _expect(self, total: int) -> None:
        """So much comes next in the stage that is shown."""
        self.emit("stage", (self._shown, total))

    def _tick(self, done: int) -> None:
        self.emit("advance", done)

    def work(self) -> None:
        """Do everything that is open, in order."""
        if not self.store.done(self.plan.start):
            _ = self.start_dir
        if not all(self.store.done(s) for s in (self.plan.pairs, *map(self.plan.tune, self.plan.points))):
            for oracle in self._oracles:
                oracle.ready()
        self.pairs()
        for point in self.plan.points:
            if not self.store.done(self.plan.tune(point)):
                self.tune(point)
        if self.plan.method.trains:
            best = self.plan.best()
            if best is None:
                told = zip(self.plan.points, self.plan.read_trials(), strict=True)
                raise FloatingPointError("; ".join(f"{point}: {trial.error}" for point, trial in told))
            self.train(best, self.plan.seed)
        self.evaluate()
        for benchmark in self.plan.benchmarks:
            if benchmark.name in self.plan.wanted:
                self._versus(benchmark)
