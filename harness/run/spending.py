"""What the runs of a comparison are predicted to spend, and what finished ones spent beside their prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.answer.adapter import adapter_in
from harness.answer.tiny_model import TINY_CONFIG
from harness.benchmark import Benchmark, EvalCost
from harness.budget.calibration import Calibration
from harness.budget.flops import Shape
from harness.budget.forecast import (
    LETTERS_PER_TOKEN,
    TEMPLATE_TOKENS,
    TYPICAL_PROMPT,
    TYPICAL_RESPONSE,
    Corrections,
    Forecast,
    Lengths,
    Spending,
    expected_answer,
    first_lines,
    forecast,
    phases,
    text_tokens,
)
from harness.budget.ledger import AXES, Ledger
from harness.errors import AbsentError, UserError
from harness.methods.base import Method
from harness.pairs.prompts import letters_of, splits
from harness.recipe.recipe import DataSpec, PairsSpec
from harness.recipe.search import Point
from harness.recipe.train import TrainSpec
from harness.run.comparison import Comparison
from harness.run.fitting import model_size
from harness.run.plan import RunPlan, configured
from harness.run.plugin_check import cost_of, prompts_of
from harness.store.json_files import read_json
from sail.prompt_rules import longest_shared, plain_because

_EIGHT_BILLION: dict[str, Any] = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}

KNOWN_CONFIGS: dict[str, dict[str, Any]] = {
    "smollm2": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "tiny": {**TINY_CONFIG, "vocab_size": 261},
    "Qwen/Qwen1.5-0.5B-Chat": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "intermediate_size": 2816,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    },
    "alignment-handbook/zephyr-7b-sft-full": _EIGHT_BILLION | {"vocab_size": 32000},
    "meta-llama/Meta-Llama-3-8B-Instruct": _EIGHT_BILLION | {"vocab_size": 128256},
}
"""Published configurations of the models of built-in recipes, as far as predictions need them."""


Prior = Callable[[Method], Mapping[str, float]]
"""Operations a second by phase that a machine is assumed to reach in a method's training."""


class TrainingSpent(NamedTuple):
    """Spending of a run's own training by axis: predicted before it began, and measured."""

    predicted: dict[str, float]
    actual: dict[str, float]


def pair_price(comparison: Comparison, method: Method | None) -> dict[str, float]:
    """What one stored training pair cost, by quantity: sampling and labelling all answers to all training prompts (of
    imported pairs: their log-probabilities under the start policy), shared out over the pairs. They are there.

    Args:
        comparison: whose pairs they are.
        method: that pays; imported pairs cost a method nothing that reads no reference. None: what they cost to make.

    Raises:
        UserError: the pairs were made by a version that did not record it.
    """
    store, stage = comparison.store, comparison.facts.pairs.stage
    spent = store.manifest(stage)["ledger"]["phases"]
    recorded = all("generated" in spent.get(phase, {}) for phase in ("data", "heldout"))
    if not recorded and not comparison.recipe.data.imported:
        raise UserError(f"The store {store.root} holds pairs of an earlier version: choose another with --store")
    if comparison.recipe.data.imported and method is not None and not method.reads_reference:
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
    train = comparison.recipe.train
    shape = shape or _shape(comparison)
    pairs = stored_pairs(comparison, shape, lengths, method)
    per_step = train.pairs_per_step
    return forecast(shape, method.spending(), pairs.lengths, per_step, pairs.number, pairs.price, corrections)


class StoredPairs(NamedTuple):
    """The training pairs of a comparison, as far as they are known.

    Attributes:
        lengths: read, or guessed by letters while the pairs are not there.
        number: how many there are, or at most.
        price: of one, by quantity, as in the ledger.
    """

    lengths: Lengths
    number: int
    price: dict[str, float]


def stored_pairs(
    comparison: Comparison, shape: Shape | None, lengths: Lengths | None = None, method: Method | None = None
) -> StoredPairs:
    """The training pairs of a comparison.

    Args:
        comparison: whose pairs they are.
        shape: of the model, for the price of pairs that are not there yet.
        lengths: of the pairs; read or guessed if None.
        method: who pays for them; without one, what they cost to make.
    """
    recipe, store, stage = comparison.recipe, comparison.store, comparison.facts.pairs.stage
    config = local_config(recipe.model, store.path(comparison.facts.start.stage))
    if not store.done(stage):
        guessed = with_sharing(_guessed_lengths(comparison), recipe.train, config)
        return StoredPairs(
            guessed, len(splits(recipe.data)["train"]), guessed_price(recipe.data, shape, guessed, method)
        )
    folder = store.path(stage)
    if lengths is None:
        rows = first_lines(folder / "train.jsonl")
        lengths = Lengths.of(rows, recipe.train.batch_size, recipe.train.max_length)
    lengths = with_sharing(lengths, recipe.train, config)
    return StoredPairs(lengths, read_json(folder / "counts.json")["train"]["pairs"], pair_price(comparison, method))


def with_sharing(lengths: Lengths, train: TrainSpec, config: Mapping[str, Any] | None) -> Lengths:
    """Lengths of pairs whose prompt a training computes once if the model's configuration lets it, else twice.

    Args:
        lengths: of the pairs, those of packed rows included.
        train: of the recipe.
        config: the model's ``config.json``; without it the model is taken for one that shares prompts.
    """
    config = config or {}
    routed = "output_router_logits" in config and train.extra.get("router_aux_loss_coef") != 0  # routers have a loss
    refused = routed or train.extra.get("disable_dropout") is False or plain_because(config, train.attention)
    window = longest_shared(config)
    return lengths.where_shared(not refused and (window is None or lengths.padded <= window), train.batch_size)


def local_config(model: str, start: Path | None) -> dict[str, Any] | None:
    """The ``config.json`` of a recipe's model: of the start policy in the store, of its own directory (of its base, if
    it is an adapter), or of a model that is built in. The Hub is not asked.

    Args:
        model: as the recipe names it.
        start: folder of the start policy in the store, which may not be there yet.

    Raises:
        UserError: the file cannot be read, or an adapter's base is not there.
    """
    file = None if start is None else start / "config.json"
    if file is None or not file.is_file():
        base = local_base(model)
        file = next((f for f in (Path(base) / "config.json", Path(model) / "config.json") if f.is_file()), None)
        if file is None:
            return KNOWN_CONFIGS.get(base.partition("@")[0])
    try:
        config = read_json(file)
    except (ValueError, OSError) as error:
        raise UserError(f"The file {file} cannot be read ({error}): write the model's folder again") from None
    if not isinstance(config, dict):
        raise UserError(f"The file {file} holds no JSON object: write the model's folder again")
    return config


def local_base(model: str) -> str:
    """The base of an adapter in a folder, as a recipe would write it; any other model itself. The Hub is not asked.

    Args:
        model: as a recipe names it.

    Raises:
        UserError: as :func:`harness.answer.adapter.adapter_in`.
    """
    adapter = adapter_in(Path(model)) if Path(model).is_dir() else None
    return model if adapter is None or adapter.base is None else local_base(adapter.base)


def _shape(comparison: Comparison) -> Shape | None:
    """The model's shape by its configuration, where that is here."""
    lora = comparison.recipe.train.lora
    config = local_config(comparison.recipe.model, comparison.store.path(comparison.facts.start.stage))
    size = None if config is None else model_size(config, lora)
    return size.shape if size else None


def _guessed_lengths(comparison: Comparison) -> Lengths:
    """Prompts and imported responses by their letters, sampled responses as expected; the longest of a batch is cut."""
    data = comparison.recipe.data
    letters = letters_of(data)
    prompt, response = letters.prompt / LETTERS_PER_TOKEN + TEMPLATE_TOKENS, expected_answer(data.max_new_tokens)
    longest = float(data.max_new_tokens)
    if data.imported:
        response = longest = min(letters.answer / LETTERS_PER_TOKEN, comparison.recipe.train.max_length)
    return Lengths(prompt, response, prompt + longest).typical_packed()


def guessed_price(
    data: DataSpec | PairsSpec, shape: Shape | None, lengths: Lengths, method: Method | None = None
) -> dict[str, float]:
    """What one stored pair is expected to cost, by quantity.

    Args:
        data: of the recipe.
        shape: of the model; None leaves operations out.
        lengths: of the pairs.
        method: who pays for it; without one, what the pair costs to make.
    """
    if data.imported and method is not None and not method.reads_reference:
        return {}
    if data.imported:
        plain = lengths.where_shared(False, 1)  # these are no forwards of a trainer
        reference = phases(shape, Spending(reference=2), plain, 1)["reference"] if shape else 0.0
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
        return {"flops": rows * guessed_price(data, shape, lengths)["forward_flops"]} if shape else {}
    answers = data.answers_to_sample
    return {"generated_tokens": answers * data.max_new_tokens, "oracle_calls": answers}


def predicted_spending(
    plan: RunPlan, calibration: Calibration | None, shape: Shape | None = None, prior: Prior | None = None
) -> dict[str, float]:
    """Spending of the trainings of a run that are open, by axis, with the tokens and judge calls of evaluation.

    Args:
        plan: of the run.
        calibration: of this machine; None for another one.
        shape: of the model, where its configuration is not here.
        prior: rates by phase of a method, for a machine that has shown none; without them ``seconds`` are left out.
    """
    comparison = plan.comparison
    data, opened = comparison.recipe.data, open_points(plan)
    total: dict[str, float] = {}
    for point in opened:
        method = configured(plan, point)
        corrections, seen = Corrections(), None
        if calibration is not None:
            corrections = calibration.corrections(comparison.setting, plan.name)
            seen = calibration.shape(comparison.setting)
        if prior is not None:
            corrections = corrections._replace(rates={**prior(method), **corrections.rates})
        expected = expect(comparison, method, corrections, None, seen or shape)
        if not expected.covers(comparison.budget):
            continue  # how many steps it buys: the start policy is not there, or the machine's speed not known
        steps = expected.steps(comparison.budget)
        for axis in AXES:
            total[axis] = total.get(axis, 0) + expected.total(steps, axis)
        if "seconds" not in expected.step:
            total.pop("seconds", None)
    trials = len(opened) if plan.seed == 0 else 0
    total["eval_tokens"] = trials * data.tune_prompts * data.max_new_tokens
    total["judge_calls"] = 0
    prompt_tokens = stored_pairs(comparison, shape).lengths.prompt
    for benchmark in open_benchmarks(plan):
        cost = evaluation_cost(benchmark, data.eval_prompts, plan.method, prompt_tokens)
        if cost is None:
            continue
        total["eval_tokens"] += cost.tokens + cost.read
        total["judge_calls"] += cost.judge_calls
    return {axis: amount for axis, amount in total.items() if amount}


def evaluation_cost(
    benchmark: Benchmark, prompts: int, method: Method, prompt_tokens: float = TYPICAL_PROMPT
) -> EvalCost | None:
    """What a benchmark can ask of a policy, with all prompts in ``read``; None if that is not known without its data.

    Args:
        benchmark: that is run.
        prompts: number of the recipe's evaluation prompts.
        method: whose policy it is.
        prompt_tokens: mean length of the recipe's prompts.
    """
    try:
        cost = cost_of(benchmark, prompts, method.trains)
    except AbsentError:
        return None
    if cost.read or cost.task_prompts:
        asked = round(cost.task_prompts * prompt_tokens)
        read = cost.read + asked
        return cost._replace(read=read, common=(asked + cost.common * cost.read) / read)
    try:
        read = text_tokens(prompts_of(benchmark))
    except AbsentError:
        limit = getattr(benchmark.options, "max_new_tokens", TYPICAL_RESPONSE)
        read = round(cost.tokens / limit) * TYPICAL_PROMPT
    return cost._replace(read=read, common=1.0)


def open_benchmarks(plan: RunPlan) -> list[Benchmark]:
    """The benchmarks asked for that a run has still to do."""
    todo = plan.todo
    return [b for b in plan.benchmarks if b.name in plan.comparison.wanted and b.name in todo]


def open_points(plan: RunPlan) -> list[Point]:
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
