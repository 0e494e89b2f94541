"""Hours, memory, disk, calls and money of a comparison on a stated machine, before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.budget.machines import Machine
from harness.budget.memory import Memory
from harness.budget.model_size import ModelSize
from harness.recipe.endpoint import Endpoint
from harness.recipe.recipe import Recipe
from harness.run.fitting import MemorySettings, model_size
from harness.run.outline import Outline, memory_need
from harness.run.workload import LLM_JUDGE, Workload

ANSWER_BYTES, PAIR_BYTES = 40, 12
"""On disk, of a generated token with its log-probability and its text, and of a token of a stored pair."""

KEPT_CHECKPOINTS = 2
"""Checkpoints with optimiser that a training keeps until it is over."""

LABEL_TOKENS = (800, 10)
"""Typical tokens of one call of an LLM judge that labels: read and written."""


@dataclass(frozen=True)
class Money:
    """In a currency.

    Attributes:
        currency: of the prices.
        parts: what it costs, by purpose.
        hour: price of one device for an hour, None if there is none; source: who says so.
        unpriced: purposes without a price.
    """

    currency: str
    parts: Mapping[str, float]
    hour: float | None
    source: str
    unpriced: Sequence[str]


@dataclass(frozen=True)
class Estimate:
    """What a comparison is predicted to need.

    Attributes:
        machine: on which.
        workers: runs side by side.
        seconds: of devices, by phase; empty if the model or the device is not known.
        wall: seconds from start to end; None likewise.
        peaks: of memory, the highest first; empty if the model is not known.
        usable: bytes that the tensors of one run can have.
        disk: bytes by purpose.
        calls: of endpoints, by purpose (``judge``, ``oracle``).
        money: what it costs.
        settings: those that decide about memory.
        shortage: a sentence on what does not fit and what would, if something does not.
        unsaid: what cannot be known.
    """

    machine: Machine
    workers: int
    seconds: Mapping[str, float]
    wall: float | None
    peaks: Sequence[Memory]
    usable: float
    disk: Mapping[str, float]
    calls: Mapping[str, float]
    money: Money
    settings: MemorySettings
    shortage: str | None
    unsaid: Sequence[str]


def estimate(outline: Outline, machine: Machine, workers: int, hour: float | None) -> Estimate:
    """What a comparison needs on a machine.

    Args:
        outline: of the comparison.
        machine: on which.
        workers: runs side by side.
        hour: price of one device for an hour, where the command line gives one.
    """
    recipe, device = outline.recipe, machine.device
    settings = MemorySettings.of(recipe, device)
    size = None if outline.config is None else model_size(outline.config, recipe.train.lora)
    work = Workload(outline, machine, settings, size)
    need = memory_need(outline, machine, workers)
    wall = work.wall(workers)
    unsaid = [*work.unsaid, *(f"the cost of {name}, whose data are not here" for name in outline.unknown)]
    if recipe.engine.name == "vllm" and not device.gpu:
        unsaid.append("the memory of vLLM on a CPU")
    if outline.config is not None and size is None:
        unsaid.append("hours, memory and disk, since transformers makes no model of this config.json")
    if not machine.has_speed:
        unsaid.append(f"hours, since the speed of {device.name} is not known")
    return Estimate(
        machine,
        workers,
        work.seconds,
        wall,
        need.peaks,
        need.usable,
        _disk(outline, size, settings, workers, work.written) if size else {},
        work.calls,
        _money(recipe, machine, work, wall, hour),
        settings,
        need.shortage,
        unsaid,
    )


def _disk(
    outline: Outline, size: ModelSize, settings: MemorySettings, workers: int, written: float
) -> dict[str, float]:
    """Bytes by purpose: the start policy, trained policies with those kept on the way, checkpoints, texts.

    Args:
        outline: of the comparison.
        size: of the model.
        settings: that decide about bytes.
        workers: trainings at once, each with its checkpoints.
        written: tokens that are generated.
    """
    config, number = outline.config or {}, settings.number
    saved = 2 if str(config.get("dtype") or config.get("torch_dtype")) in ("bfloat16", "float16") else 4
    policies = 0
    for row in outline.rows:
        kept = {share for benchmark in row.benchmarks for share in benchmark.fractions() if share < 1}
        policies += len(row.trainings) * (1 + len(kept))
    training = min(workers, sum(len(row.trainings) for row in outline.rows))
    lengths = outline.pairs.lengths
    pair = (lengths.prompt + 2 * lengths.response) * PAIR_BYTES
    parts = {
        "start policy": float(size.parameters * saved),
        "trained policies": float(policies * size.trained * number.trained),
        "checkpoints while training": training * KEPT_CHECKPOINTS * size.trained * (number.trained + number.optimiser),
        "pairs and answers": outline.pairs.number * pair + written * ANSWER_BYTES,
    }
    return {name: amount for name, amount in parts.items() if amount}


def _money(recipe: Recipe, machine: Machine, work: Workload, wall: float | None, hour: float | None) -> Money:
    """What devices and endpoints cost.

    Args:
        recipe: gives prices.
        machine: gives a typical price; all its devices are paid for from start to end.
        work: gives calls.
        wall: seconds from start to end.
        hour: price of one device for an hour, where the command line gives one.
    """
    prices = recipe.prices
    currency, source = prices.currency if prices else "USD", "--price-hour"
    if hour is None and prices and prices.device_hour:
        hour, source = prices.device_hour, "the recipe's prices"
    if hour is None and currency == "USD" and machine.device.price is not None:
        hour, source = machine.device.price, "typical on demand"
    parts: dict[str, float] = {}
    unpriced: list[str] = []
    if hour is not None and wall is not None:
        parts["devices"] = wall / 3600 * machine.count * hour
    elif machine.device.gpu and wall is not None:
        unpriced.append("devices (--price-hour)")
    judge, oracle = recipe.judge, recipe.oracle.options
    if calls := work.calls["judge"]:
        read = sum(n * tokens.read for tokens, n in work.judged.items())
        written = sum(n * tokens.written for tokens, n in work.judged.items())
        if prices and prices.judge_call:
            parts["judge"] = calls * prices.judge_call
        elif isinstance(judge, Endpoint) and (judge.price_in or judge.price_out):
            parts["judge"] = (read * judge.price_in + written * judge.price_out) / 1e6
        else:
            unpriced.append("judge (judge.price_in and price_out)")
    if calls := work.calls["oracle"]:
        price_in, price_out = float(oracle.get("price_in", 0)), float(oracle.get("price_out", 0))
        if prices and prices.oracle_call:
            parts["labels"] = calls * prices.oracle_call
        elif price_in or price_out:
            parts["labels"] = calls * (LABEL_TOKENS[0] * price_in + LABEL_TOKENS[1] * price_out) / 1e6
        elif recipe.oracle.name == LLM_JUDGE:
            unpriced.append("labels (the oracle's price_in and price_out)")
    if work.endpoint_money:
        parts["rows behind endpoints"] = work.endpoint_money
    return Money(currency, parts, hour, source, unpriced)
