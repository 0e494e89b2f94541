"""Building the stages of training and of a trial's score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.answer.chat import Prompt, messages_of
from harness.budget.calibration import Calibration
from harness.budget.flops import Shape
from harness.budget.forecast import Corrections, Lengths
from harness.budget.ledger import AXES
from harness.errors import UserError
from harness.oracles.none import NONE
from harness.pairs.prompts import PromptsById
from harness.recipe.search import Point
from harness.run.job import Job
from harness.run.pairs import prompts_by_part
from harness.run.plan import RunPlan, configured
from harness.run.ranks import RankTask, Trained, train_in_ranks
from harness.run.readiness import check_rollouts
from harness.run.resources import Emit, Resources
from harness.run.returned import check_loads, keep_policy
from harness.run.spending import expect, pair_price
from harness.run.trackers.messages import LoggedRow
from harness.store.environment import environment
from harness.store.json_files import Row
from harness.store.row_files import RowFile
from harness.store.settings import settings
from harness.train.context import TrainContext
from sail.types import Request


def train_policy(
    resources: Resources,
    plan: RunPlan,
    point: Point,
    seed: int,
    pairs: Path,
    prompts: Mapping[str, Sequence[Prompt]],
    work: Path,
) -> dict[str, Any]:
    """Train the plan's method into a work folder (``policy``, ``log.json``); returns the manifest entries.

    Args:
        resources: models and meters of the run.
        plan: of the run.
        point: learning rate and options.
        seed: of the training.
        pairs: folder of the preference pairs.
        prompts: by part.
        work: the work folder; checkpoints in it are resumed from.

    Raises:
        UserError: the method returned no policy, its answers would not fit the model, or the budget cannot buy a step.
        FloatingPointError: loss or weights are no numbers.
    """
    comparison = plan.comparison
    budget, setting, train = comparison.budget, comparison.setting, comparison.recipe.train
    rows, method = RowFile(pairs / "train.jsonl"), configured(plan, point)
    check_rollouts(resources, plan.name, method, rows)
    calibration = Calibration(comparison.store.root, environment())
    lengths = Lengths.of(rows, train.batch_size, train.max_length)
    corrections = calibration.corrections(setting, plan.name)
    expected = expect(comparison, method, corrections, lengths, calibration.shape(setting))
    ledger = resources.open_ledger(None)  # checkpoints carry it
    context = _context(resources, plan, point, rows, prompts, seed=seed, work=work)
    resources.models.release()
    resources.emit("share", (f"train {point}", f"{budget.limit:g} {budget.axis.replace('_', ' ')}"))
    if train.processes == 1:
        folder, shape = _train_here(resources, plan, point, context)
    else:
        settings = point.record() | {"seed": seed}
        trained = train_in_ranks(RankTask.of(Job.of(plan), settings, pairs, work), _train_as_rank, resources.emit)
        folder, shape = trained.folder, trained.shape
        context.tick()
        ledger.restore(trained.ledger)
        context.log.extend(trained.log)
    keep_policy(plan.name, folder, context)
    if not type(method).__module__.startswith("harness."):
        check_loads(plan.name, context.directory / "policy", resources.models.trained)
    steps = expected.steps(budget) if expected.covers(budget) else 0
    predicted = {axis: round(expected.total(steps, axis), 3) for axis in AXES if steps and axis in expected.step}
    if shape is not None and ledger.get("train", "steps"):
        calibration.record(
            setting, plan.name, shape, ledger, lambda rates: expect(comparison, method, rates, lengths, shape)
        )
    ledger.progress = {}
    return resources.spent() | {"predicted": predicted}


def _train_here(
    resources: Resources, plan: RunPlan, point: Point, context: TrainContext
) -> tuple[Path | None, Shape | None]:
    """Train in this process: what the method returns, and the shape of the model that it trained."""
    comparison, method = plan.comparison, configured(plan, point)
    train = comparison.recipe.train
    resources.meter.charge_stored_pairs(context.pairs, pair_price(comparison, method), train.max_length)
    engine = resources.sampler(method, context.directory / "engine")
    with engine as context.sampler, resources.meter.enforce(comparison.budget):
        folder = method.train(context)
    return folder, resources.meter.trained


def _train_as_rank(task: RankTask, emit: Emit) -> Trained:
    """Train in this process as one of several (:func:`harness.run.ranks.train_in_ranks`)."""
    plan = task.job.plan()
    comparison = plan.comparison
    settings = dict(task.settings)
    seed, point, pairs = settings.pop("seed"), Point(**settings), Path(task.pairs)
    resources = Resources(comparison.recipe, comparison.store, comparison.facts.start, emit)
    ledger = resources.open_ledger(None)
    prompts = prompts_by_part(comparison.recipe, comparison.store, pairs)
    rows = RowFile(pairs / "train.jsonl")
    context = _context(resources, plan, point, rows, prompts, seed=seed, work=Path(task.work))
    folder, shape = _train_here(resources, plan, point, context)
    return Trained(ledger.dump(), list(context.log), folder, shape)


def _context(
    resources: Resources,
    plan: RunPlan,
    point: Point,
    rows: Sequence[Row],
    prompts: Mapping[str, Sequence[Prompt]],
    *,
    seed: int,
    work: Path,
) -> TrainContext:
    """What the method is given. No trained policy may depend on what earlier runs spent, and so no prediction here."""
    from harness.answer.load import load_model

    def fresh(folder: Path | None = None) -> Any:
        """A model of its own."""
        model = resources.meter.attach(load_model(folder or start, None, resources.loading))
        if folder is None:
            resources.share_steps(model)
        return model

    def say(text: str) -> None:
        """On the terminal, and in the log of this process."""
        print(text, flush=True)
        resources.emit("say", f"{plan.name} seed {seed}, {point}: {text}")

    def send(number: int, row: Mapping[str, float]) -> None:
        """To trackers, if there are any, while training goes on."""
        if settings().curves:
            resources.emit("logged", LoggedRow(point.record(), seed, number, dict(row)))

    recipe, budget = plan.comparison.recipe, plan.comparison.budget
    start, ledger = resources.start_dir, resources.ledger
    lengths = Lengths.of(rows, recipe.train.batch_size, recipe.train.max_length)
    plain = expect(plan.comparison, configured(plan, point), Corrections(), lengths)
    return TrainContext(
        start=start,
        tokenizer=resources.tokenizer,
        pairs=rows,
        prompts=PromptsById(lambda: prompts["train"]),
        oracle=resources.oracle,
        meter=resources.meter,
        ledger=ledger,
        budget=budget,
        seed=seed,
        learning_rate=point.learning_rate,
        max_new_tokens=recipe.data.max_new_tokens,
        train=recipe.train,
        directory=work,
        load_model=fresh,
        on_step=lambda step: resources.emit("at", round(100 * budget.share(ledger))),
        on_log=send,
        say=say,
        per_step={axis: plain.total(1, axis) for axis in AXES},
        predicted_steps=plain.steps(budget) if plain.covers(budget) else None,
        fractions=plan.fractions,
        precision=recipe.precision,
        generation_batch_size=recipe.generation_batch_size,
    )


def _tuning_requests(resources: Resources, prompts: Sequence[Prompt]) -> list[Request]:
    from harness.answer.chat import render

    longest = resources.recipe.data.max_new_tokens
    return [
        Request(tuple(render(resources.tokenizer, messages_of(p))), longest, 1.0, ("tune", p["id"])) for p in prompts
    ]


def answer_tuning_prompts(resources: Resources, prompts: Sequence[Prompt]) -> None:
    """Sample the start policy's answers to the tuning prompts, with which all trials are compared.

    They are sampled once, before any trial, so that each trial is charged the same for them however trials follow each
    other. Nothing is charged here.

    Args:
        resources: models and meters of the run.
        prompts: the tuning prompts.
    """
    resources.open_ledger(None)
    with resources.meter.phase("eval"):
        resources.start_served.sample(_tuning_requests(resources, prompts), priced=True, shared=True)


def _charge_start_answers(resources: Resources, requests: Sequence[Request]) -> None:
    """Charge a trial for the start policy's answers. It comes last: an attempt that is cut off goes on from the ledger
    that was written when rows were last kept, and would charge them again."""
    with resources.meter.phase("eval"):
        resources.start_served.sample(requests, priced=True)


def trial_scores(resources: Resources, policy: Any, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Gold reward (where there is an oracle) and perplexity ratio of a trial's policy on the tuning prompts.

    Args:
        resources: models and meters of the run.
        policy: the trained policy.
        prompts: the tuning prompts.

    Raises:
        UserError: the oracle gave no verdict at all.
    """
    recipe, requests = resources.recipe, _tuning_requests(resources, prompts)
    resources.emit("stage", ("score trial", len(requests)))
    with resources.meter.phase("eval"):
        answers = policy.sample(requests, resources.tick, shared=True)
        start_answers = resources.start_served.sample(requests)  # they are there, and are charged below
        rows = [(q.prompt, c.ids) for q, c in zip(requests, answers, strict=True)]
        logps = resources.start.asked_by(policy.identity).summed_logps(rows, recipe.scoring_batch_size)
    nll = -sum(logps) / sum(len(c.ids) for c in answers)
    start_nll = -sum(c.logp for c in start_answers) / sum(len(c.ids) for c in start_answers)
    scores = {"perplexity_ratio": round(math.exp(nll - start_nll), 6)}
    if recipe.oracle.name == NONE:
        _charge_start_answers(resources, requests)
        return scores
    texts, start_texts = [policy.text(c) for c in answers], [policy.text(c) for c in start_answers]
    rewards, _ = resources.oracle.versus(prompts, texts, start_texts)
    valid = [r for r in rewards if math.isfinite(r)]
    if not valid:
        raise UserError("The oracle gave no verdict on any tuning prompt: take another model, or raise max_tokens")
    _charge_start_answers(resources, requests)
    return {"gold_reward": round(sum(valid) / len(valid), 6), **scores}
