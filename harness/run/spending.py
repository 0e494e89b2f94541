"""What the runs of a comparison are predicted to spend, and what finished ones spent beside their prediction."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harness.budget.calibration import Calibration
from harness.budget.flops import Shape, shape_of_config
from harness.budget.forecast import Corrections, Forecast, Lengths, Spending, first_lines, forecast, phases
from harness.budget.ledger import AXES, Ledger
from harness.errors import UserError
from harness.methods.base import Method
from harness.pairs.prompts import splits
from harness.recipe.search import Point
from harness.run.comparison import Comparison
from harness.run.plan import RunPlan, configured
from harness.store.json_files import read_json

LETTERS_PER_TOKEN, TEMPLATE_TOKENS = 4, 24
KNOWN_CONFIGS: dict[str, dict[str, int]] = {
    "smollm2": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
    }
}


class TrainingSpent(NamedTuple):
    """Spending of a run's own training by axis: predicted before it began, and measured."""

    predicted: dict[str, float]
    actual: dict[str, float]


def pair_price(comparison: Comparison, method: Method) -> dict[str, float]:
    """What one stored training pair cost, by quantity: sampling and labelling all answers to all training prompts (of
    imported pairs: their log-probabilities under the start policy), shared out over the pairs. They are there.

    Args:
        comparison: whose pairs they are.
        method: that pays; imported pairs cost a method nothing that reads no reference.

    Raises:
        UserError: the pairs were made by a version that did not record it.
    """
    store, stage = comparison.store, comparison.facts.pairs.stage
    spent = store.manifest(stage)["ledger"]["phases"]
    recorded = all("generated" in spent.get(phase, {}) for phase in ("data", "heldout"))
    if not recorded and not comparison.recipe.data.imported:
        raise UserError(f"The store {store.root} holds pairs of an earlier version: choose another with --store")
    if comparison.recipe.data.imported and not method.reads_reference:
        return {}
    count = read_json(store.path(stage) / "counts.json")["train"]["pairs"]
    return {quantity: amount / count for quantity, amount in spent["data"].items()}


def expect(
    comparison: Comparison,
    method: Method,
    corrections: Corrections,
    lengths: Lengths | None = None,
    shape: Shape | None = None,
) -> Forecast:
    """Forecast of a training run.

    Args:
        comparison: whose pairs and settings it trains with.
        method: configured.
        corrections: what :meth:`harness.budget.calibration.Calibration.corrections` returns.
        lengths: of the stored pairs; read or guessed if None.
        shape: of the model in training; from its ``config.json``, if it is there, if None.
    """
    recipe, store, pairs = comparison.recipe, comparison.store, comparison.facts.pairs.stage
    per_step = recipe.train.batch_size * recipe.train.gradient_accumulation
    shape = shape or _shape(comparison)
    if store.done(pairs):
        folder = store.path(pairs)
        if lengths is None:
            rows = first_lines(folder / "train.jsonl")
            lengths = Lengths.of(rows, recipe.train.batch_size, recipe.train.max_length)
        stored, price = read_json(folder / "counts.json")["train"]["pairs"], pair_price(comparison, method)
    else:
        lengths = _guessed_lengths(comparison)
        stored, price = len(splits(recipe.data)["train"]), _guessed_price(comparison, method, shape, lengths)
    return forecast(shape, method.spending(), lengths, per_step, stored, price, corrections)


def _shape(comparison: Comparison) -> Shape | None:
    """From the start policy's ``config.json`` in the store or in its own directory, or that of the embedded model."""
    lora, model = comparison.recipe.train.lora, comparison.recipe.model
    files = [comparison.store.path(comparison.facts.start.stage) / "config.json", Path(model) / "config.json"]
    config = next((read_json(file) for file in files if file.is_file()), KNOWN_CONFIGS.get(model))
    if config is None:
        return None
    try:
        return shape_of_config(config, lora.layers if lora else None, lora.r if lora else 0)
    except KeyError:  # not laid out like Llama: the first run will show it
        return None


def _guessed_lengths(comparison: Comparison) -> Lengths:
    """Prompts and imported responses by their letters, sampled responses at their longest."""
    data = comparison.recipe.data
    prompts = splits(data)["train"]
    prompt = sum(len(p["prompt"]) for p in prompts) / len(prompts) / LETTERS_PER_TOKEN + TEMPLATE_TOKENS
    response = float(data.max_new_tokens)
    if data.imported:
        letters = sum(len(p["chosen"]) + len(p["rejected"]) for p in prompts) / 2 / len(prompts)
        response = min(letters / LETTERS_PER_TOKEN, comparison.recipe.train.max_length)
    return Lengths(prompt, response, prompt + response)


def _guessed_price(
    comparison: Comparison, method: Method | None, shape: Shape | None, lengths: Lengths
) -> dict[str, float]:
    """As :func:`pair_price`, before the pairs are there; without a method, what the pairs themselves cost."""
    data = comparison.recipe.data
    if data.imported and method is not None and not method.reads_reference:
        return {}
    if data.imported:
        reference = phases(shape, Spending(reference=2), lengths, 1)["reference"] if shape else 0.0
        return {"forward_flops": reference}
    samples = data.samples
    price: dict[str, float] = {"generated": samples * lengths.response, "calls": samples}
    if shape is not None:
        price["prefill_flops"] = phases(shape, Spending(sampled=samples), lengths, 1)["generate"]
    return price


def pairs_spending(comparison: Comparison) -> dict[str, float]:
    """Tokens to sample for the stored pairs, or operations for imported ones, if they are not there yet; at most."""
    if comparison.store.done(comparison.facts.pairs.stage):
        return {}
    data = comparison.recipe.data
    if data.imported:
        shape, lengths = _shape(comparison), _guessed_lengths(comparison)
        rows = sum(len(splits(data)[part]) for part in ("train", "heldout"))
        return {"flops": rows * _guessed_price(comparison, None, shape, lengths)["forward_flops"]} if shape else {}
    answers = data.answers_to_sample
    return {"generated_tokens": answers * data.max_new_tokens, "oracle_calls": answers}


def predicted_spending(plan: RunPlan, calibration: Calibration) -> dict[str, float]:
    """Spending of the trainings of a run that are open, by axis, with the tokens and judge calls of evaluation.

    ``seconds`` of training are missing until a run has shown this machine's speed.
    """
    comparison = plan.comparison
    data, open_points = comparison.recipe.data, _open_points(plan)
    total: dict[str, float] = {}
    for point in open_points:
        corrections = calibration.corrections(comparison.setting, plan.name)
        shape = calibration.shape(comparison.setting)
        expected = expect(comparison, configured(plan, point), corrections, None, shape)
        if not expected.covers(comparison.budget):
            continue  # how many steps it buys: the start policy is not there, or the machine's speed not known
        steps = expected.steps(comparison.budget)
        for axis in AXES:
            total[axis] = total.get(axis, 0) + expected.total(steps, axis)
        if "seconds" not in expected.step:
            total.pop("seconds", None)
    trials = len(open_points) if plan.seed == 0 else 0
    total["eval_tokens"] = trials * data.tune_prompts * data.max_new_tokens
    total["judge_calls"] = 0
    todo = plan.todo
    for benchmark in plan.benchmarks:
        if benchmark.name in comparison.wanted and benchmark.name in todo:
            cost = benchmark.cost(data.eval_prompts, plan.method.trains)
            total["eval_tokens"] += cost.tokens
            total["judge_calls"] += cost.judge_calls
    return {axis: amount for axis, amount in total.items() if amount}


def _open_points(plan: RunPlan) -> list[Point]:
    """Points of the search still to be trained; for a later seed the winner, or the first while it is not known."""
    if plan.seed == 0:
        return [t.point for t in plan.trials if not plan.states[t.tune.key].done]
    if not plan.trials or (plan.policy and plan.states[plan.policy.key].done):
        return []
    return [plan.winner.point or plan.trials[0].point]


def spent_by(plan: RunPlan) -> TrainingSpent | None:
    """What was predicted for the run's own training before it began, and what it spent; None while it is open."""
    if plan.policy is None or not plan.method.trains or not plan.states[plan.policy.key].done:
        return None
    manifest = plan.comparison.store.manifest(plan.policy.stage)
    ledger, budget = Ledger.load(manifest["ledger"]), plan.comparison.budget
    return TrainingSpent(manifest.get("predicted", {}), {axis: budget.spent(ledger, axis) for axis in AXES})
