"""How long a device takes, from operations and bytes: a prior by kind of work and GPU, before anything was measured.

The utilisations are what Hugging Face's trainers usually reach with small batches, not what a kernel can reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.budget.flops import backward, forward, head
from harness.budget.forecast import Lengths, Spending, phases
from harness.budget.machines import Device
from harness.budget.memory import Bytes
from harness.budget.model_size import ModelSize

TRAINING: Mapping[str, float] = {"h100": 0.35, "h200": 0.35, "b200": 0.25, "mi300x": 0.25, "cpu": 0.7}
"""Share of the peak that training reaches, by device; 0.4 for others."""

USUAL, READING, BANDWIDTH = 0.4, 1.1, 0.6
"""Training's share of other devices; reading (no backward) against training; share of the bandwidth in decoding."""

LAUNCH = {"transformers": 1e-3, "vllm": 5e-5}
"""Seconds a block and decoding step before any arithmetic, by engine: launching a block's operations one by one."""

CACHE_TOKENS = 1 << 16
"""Tokens that the sampler keeps in its cache at once (:data:`sail.sampling.CACHE_TOKENS`, without its import)."""

TRAINING_LAUNCH = 4e-3
"""Seconds a block and micro-batch of training take at least: forward, backward, and their launches."""

VLLM_ROWS = 256
"""Answers that vLLM decodes at once."""


@dataclass(frozen=True)
class Sampler:
    """How answers are sampled.

    Attributes:
        engine: ``transformers`` or ``vllm``.
        rows: most answers at once.
        longest: most tokens of an answer.
    """

    engine: str
    rows: int
    longest: int


def utilisation(device: Device) -> float:
    """Share of the peak that training reaches."""
    return TRAINING.get(device.name, USUAL)


def reading_rate(device: Device, number: Bytes) -> float:
    """Operations a second of a forward pass without gradient.

    Args:
        device: that computes.
        number: bytes a number.
    """
    return device.peak(number.compute, number.tf32) * min(0.9, READING * utilisation(device))


def decoding_seconds(
    device: Device, size: ModelSize, answers: float, lengths: Lengths, sampler: Sampler, number: Bytes
) -> float:
    """Seconds to decode answers whose prompts have been read.

    A step moves all weights, and the key-value cache of each row that is not finished, and does their arithmetic: on a
    GPU one kernel after the other, on a CPU at the same time, so that the slower of the two counts. A batch ends with
    its longest answer.

    Args:
        device: that computes.
        size: of the model.
        answers: to sample.
        lengths: mean tokens of a prompt and of an answer.
        sampler: how.
        number: bytes a number.
    """
    if not answers:
        return 0.0
    width = lengths.prompt + sampler.longest
    most = VLLM_ROWS if sampler.engine == "vllm" else max(1, min(sampler.rows, int(CACHE_TOKENS // width)))
    rows = min(most, answers)
    steps = math.ceil(answers / most) * (sampler.longest if rows >= 4 else lengths.response)
    if sampler.engine == "vllm":  # a finished answer makes room for the next
        steps = answers * lengths.response / rows
    context = lengths.prompt + lengths.response / 2
    tokens = answers * lengths.response
    launched = steps * size.shape.layers * LAUNCH.get(sampler.engine, LAUNCH["transformers"])
    moved = steps * size.parameters * number.weight + tokens * context * size.cached * number.compute
    operations = tokens * (forward(size.shape, 1, 1, round(context)) + head(size.shape, 1))
    parts = moved / (device.bandwidth * BANDWIDTH), operations / reading_rate(device, number)
    return launched + (sum(parts) if device.gpu else max(parts))


def prior_rates(
    device: Device,
    size: ModelSize,
    spending: Spending,
    lengths: Lengths,
    pairs: int,
    sampler: Sampler,
    number: Bytes,
    *,
    checkpointing: bool,
    micro_batches: int = 1,
) -> dict[str, float]:
    """Model operations a second by phase, in the form of :class:`harness.budget.forecast.Corrections`.

    What gradient checkpointing computes again takes time and is no model operation, so training's rate falls.

    Args:
        device: that computes.
        size: of the policy in training.
        spending: what a trained pair costs.
        lengths: of prompts and responses.
        pairs: of an optimiser step.
        sampler: how answers are sampled in training.
        number: bytes a number.
        checkpointing: whether activations are computed again.
        micro_batches: of an optimiser step.
    """
    peak = device.peak(number.compute, number.tf32)
    rates = {"train": peak * utilisation(device), "reference": reading_rate(device, number)}
    padded = max(1, round(lengths.padded))
    if checkpointing:
        shape = size.shape
        once = forward(shape, 1, padded) + backward(shape, 1, padded)
        deeper = replace(shape, bottom=min(shape.bottom, -1))
        rates["train"] *= once / (2 * forward(shape, 1, padded) + backward(deeper, 1, padded))
    computed = phases(size.shape, spending, lengths, pairs)
    least = TRAINING_LAUNCH * size.shape.layers * micro_batches
    rates["train"] = computed["train"] / (computed["train"] / rates["train"] + least)
    if spending.sampled:
        answers = spending.sampled * pairs
        reading = answers / 2 * forward(size.shape, 1, max(1, round(lengths.prompt) - 1)) / rates["reference"]
        rates["generate"] = computed["generate"] / (
            reading + decoding_seconds(device, size, answers, lengths, sampler, number)
        )
    return rates
