"""What the runs of a comparison are predicted to spend, and what finished ones spent beside their prediction."""

from __future__ import annotations

from pathlib import Path

from harness.budget.calibration import Calibration
from harness.budget.flops import Shape, shape_of_config
from harness.budget.forecast import Corrections, Forecast, Lengths, Spending, first_lines, forecast, phases
from harness.budget.ledger import AXES, Ledger
from harness.methods.base import Method
from harness.pairs.prompts import splits
from harness.recipe.recipe import PairsSpec
from harness.run.plan import RunPlan
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


def expect(
    plan: RunPlan,
    method: Method,
    corrections: Corrections,
    lengths: Lengths | None = None,
    shape: Shape | None = None,
) -> Forecast:
    """Forecast of a training run.

    Args:
        corrections: what :meth:`harness.budget.calibration.Calibration.corrections` says.
        lengths: of the stored pairs; read or guessed if None.
        shape: of the model in training; from its ``config.json``, if it is there, if None.
    """
    recipe = plan.recipe
    per_step = recipe.train.batch_size * recipe.train.gradient_accumulation
    shape = shape or _shape(plan)
    if plan.store.done(plan.pairs):
        folder = plan.store.path(plan.pairs)
        if lengths is None:
            rows = first_lines(folder / "train.jsonl")
            lengths = Lengths.of(rows, recipe.train.batch_size, recipe.train.max_length)
        stored, price = read_json(folder / "counts.json")["train"]["pairs"], plan.price
    else:
        lengths = _guess(plan)
        stored, price = len(splits(recipe.data)["train"]), _guessed_price(plan, shape, lengths)
    return forecast(shape, method.spending(), lengths, per_step, stored, price, corrections)


def _shape(plan: RunPlan) -> Shape | None:
    """From the start policy's ``config.json`` in the store or in its own directory, or what is known of it."""
    lora, model = plan.recipe.train.lora, plan.recipe.model
    files = [plan.store.path(plan.start) / "config.json", Path(model) / "config.json"]
    found = next((read_json(file) for file in files if file.is_file()), KNOWN_CONFIGS.get(model))
    if found is None:
        return None
    try:
        return shape_of_config(found, lora.layers if lora else None, lora.r if lora else 0)
    except KeyError:  # not laid out like Llama: the first run tells
        return None


def _guess(plan: RunPlan) -> Lengths:
    """Prompts and brought responses by their letters, sampled responses at their longest."""
    data = plan.recipe.data
    prompts = splits(data)["train"]
    prompt = sum(len(p["prompt"]) for p in prompts) / len(prompts) / LETTERS_PER_TOKEN + TEMPLATE_TOKENS
    response = float(data.max_new_tokens)
    if isinstance(data, PairsSpec):
        letters = sum(len(p["chosen"]) + len(p["rejected"]) for p in prompts) / 2 / len(prompts)
        response = min(letters / LETTERS_PER_TOKEN, plan.recipe.train.max_length)
    return Lengths(prompt, response, prompt + response)


def _guessed_price(plan: RunPlan, shape: Shape | None, lengths: Lengths) -> dict[str, float]:
    data = plan.recipe.data
    if isinstance(data, PairsSpec):
        reference = phases(shape, Spending(reference=2), lengths, 1)["reference"] if shape else 0.0
        return {"forward_flops": reference}
    samples = data.samples
    price: dict[str, float] = {"generated": samples * lengths.response, "calls": samples}
    if shape is not None:
        price["prefill_flops"] = phases(shape, Spending(sampled=samples), lengths, 1)["generate"]
    return price


def shared(plan: RunPlan) -> dict[str, float]:
    """Tokens to sample for the stored pairs, or operations for brought ones, if they are not there yet; at most."""
    if plan.store.done(plan.pairs):
        return {}
    data = plan.recipe.data
    if isinstance(data, PairsSpec):
        shape, lengths = _shape(plan), _guess(plan)
        rows = sum(len(splits(data)[part]) for part in ("train", "heldout"))
        return {"flops": rows * _guessed_price(plan, shape, lengths)["forward_flops"]} if shape else {}
    asked = (data.train_prompts + data.heldout_prompts) * data.samples
    return {"generated_tokens": asked * data.max_new_tokens, "oracle_calls": asked}


def predicted(plan: RunPlan, calibration: Calibration) -> dict[str, float]:
    """Spending of the trainings of a run that are open, by axis, with the tokens and judge calls of evaluation.

    ``seconds`` of training are missing until a run has shown this machine's speed.
    """
    todo = set(plan.open_stages())
    best = plan.best()
    trainings = [p for p in plan.points if f"trial {p}" in todo] if plan.seed == 0 else []
    if plan.seed > 0 and "train" in todo:
        trainings = [best or plan.points[0]]
    total: dict[str, float] = {}
    for point in trainings:
        method = plan.configured(point)
        found = expect(
            plan, method, calibration.corrections(plan.setting, plan.name), None, calibration.shape(plan.setting)
        )
        if not found.covers(plan.budget):
            continue  # how many steps it buys: the start policy is not there, or the machine's speed not known
        steps = found.steps(plan.budget)
        for axis in AXES:
            total[axis] = total.get(axis, 0) + found.total(steps, axis)
        if "seconds" not in found.step:
            total.pop("seconds", None)
    data = plan.recipe.data
    trials = len(trainings) if plan.seed == 0 else 0
    total["eval_tokens"] = trials * data.tune_prompts * data.max_new_tokens
    total["judge_calls"] = 0
    for benchmark in plan.benchmarks:
        if benchmark.name in plan.wanted and benchmark.name in todo:
            tokens, asked = benchmark.cost(data.eval_prompts, plan.method.trains)
            total["eval_tokens"] += tokens
            total["judge_calls"] += asked
    return {axis: amount for axis, amount in total.items() if amount}


def actual(plan: RunPlan) -> tuple[dict[str, float], dict[str, float]] | None:
    """What was predicted for the run's own training before it began, and what it spent; None while it is open."""
    stage = plan.policy()
    if stage is None or not plan.method.trains or not plan.store.done(stage):
        return None
    manifest = plan.store.manifest(stage)
    ledger = Ledger.load(manifest["ledger"])
    return manifest.get("predicted", {}), {axis: plan.budget.spent(ledger, axis) for axis in AXES}
