"""Whether a recipe's trainings and evaluation fit a device's memory, and which settings would."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

from harness.answer.vllm_engine import MEMORY_SHARE
from harness.budget.device_time import CACHE_TOKENS
from harness.budget.machines import Device
from harness.budget.memory import (
    PRECISIONS,
    Bytes,
    Memory,
    TrainingBatch,
    packed_memory,
    sampling_memory,
    scoring_memory,
    sharded_memory,
    training_memory,
)
from harness.budget.model_size import ModelSize, size_of_config
from harness.errors import UserError
from harness.methods.base import Method
from harness.recipe.recipe import Recipe
from harness.recipe.train import LoraSpec
from harness.store.json_files import json_text

GIB = 2**30

GPU_SHARE = 0.92
"""Share of a GPU's memory that tensors can have; the rest is the CUDA context and fragmentation."""

PROCESS = 0.8 * GIB
"""Of a run process before any tensor, on a CPU: the interpreter and its libraries."""

VLLM = "vLLM's share"
"""Name of this part of memory."""

SHRINKING = ("quantization", "cpu_offload_gb")
"""Options of vLLM by which its weights take less of the device's memory than the model's."""

SHORTEST, SMALL_RANK = 256, 16

OPTIMISER_BYTES: Mapping[str, float] = {"8bit": 2.0, "rmsprop": 4.0, "adafactor": 0.1, "lion": 4.0, "sgd": 0.0}
"""Bytes of states of one trained weight, by what an optimiser's name holds; those of AdamW for others."""


@dataclass(frozen=True)
class MemorySettings:
    """The settings of a recipe that decide about memory; attributes are named as its keys are."""

    batch_size: int
    gradient_accumulation: int
    max_length: int
    lora: LoraSpec | None
    precision: str
    gradient_checkpointing: bool
    generation_batch_size: int
    scoring_batch_size: int
    optim: str = "adamw"
    tf32: bool = False
    attention: str | None = None
    vllm: Mapping[str, Any] | None = None
    """``engine.options`` where vLLM samples on a GPU."""
    workers: int = 1
    """Processes side by side, which share the memory of a CPU."""
    shards: int = 1
    """Processes that share out the weights of a training."""

    @classmethod
    def of(cls, recipe: Recipe, device: Device) -> MemorySettings:
        """Those of a recipe on a device: activations are computed again on a GPU unless the recipe says otherwise."""
        train = recipe.train
        checkpointing = train.gradient_checkpointing
        return cls(
            train.batch_size,
            train.gradient_accumulation,
            train.max_length,
            train.lora,
            recipe.precision,
            device.gpu if checkpointing is None else checkpointing,
            recipe.generation_batch_size,
            recipe.scoring_batch_size,
            train.optim,
            recipe.tf32,
            train.attention,
            recipe.engine.options if recipe.engine.name == "vllm" and device.gpu else None,
            shards=train.processes if train.sharding else 1,
        )

    @property
    def number(self) -> Bytes:
        """Bytes a number."""
        number = PRECISIONS[self.precision]
        states = next((size for name, size in OPTIMISER_BYTES.items() if name in self.optim), number.optimiser)
        return replace(number, optimiser=states, tf32=self.tf32, eager=self.attention == "eager")

    @property
    def vllm_share(self) -> float:
        """Share of the device's memory that vLLM has while it samples; 0 without it.

        Raises:
            UserError: the recipe gives no share.
        """
        if self.vllm is None:
            return 0.0
        share = self.vllm.get("gpu_memory_utilization", MEMORY_SHARE)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise UserError(
                f"engine.options.gpu_memory_utilization is {share!r}: give a share above 0 of at most 1, as in 0.4"
            )
        return float(share)


@dataclass(frozen=True)
class Texts:
    """The longest texts that go through the model.

    Attributes:
        prompt: tokens of the longest prompt.
        pair: tokens of the longest prompt with its answer, before ``max_length`` cuts it.
        sampled: most tokens of an answer in training.
        question: tokens of the longest prompt in evaluation.
        evaluated: most tokens of an answer in evaluation.
    """

    prompt: int
    pair: int
    sampled: int
    question: int
    evaluated: int


def model_size(config: Mapping[str, Any], lora: LoraSpec | None) -> ModelSize | None:
    """The size of a model with the adapter that a recipe adds."""
    return _size(json_text(dict(config), sort_keys=True), None if lora is None else lora.layers, lora.r if lora else 0)


@lru_cache(maxsize=32)
def _size(config: str, layers: int | None, rank: int) -> ModelSize | None:
    import json

    return size_of_config(json.loads(config), layers, rank)


def peak_memory(
    config: Mapping[str, Any], settings: MemorySettings, methods: Sequence[Method], texts: Texts, device: Device
) -> list[Memory]:
    """The peaks of a comparison, the highest first; empty if the model's size cannot be known.

    Args:
        config: the model's ``config.json``.
        settings: of the recipe.
        methods: that are trained or evaluated.
        texts: the longest.
        device: that holds them.
    """
    size = model_size(config, settings.lora)
    if size is None:
        return []
    moments = [
        moment for method in methods if method.trains for moment in _training(size, settings, method, texts, device)
    ]
    moments += evaluation_memory(size, settings, texts, device)
    return sorted(moments, key=lambda m: -m.total)


def _with_copies(memory: Memory, size: ModelSize, settings: MemorySettings, device: Device) -> Memory:
    """The same moment with the packed copies of weights that a CPU keeps."""
    packed = 0.0 if device.gpu else packed_memory(size, settings.number, device.memory / settings.workers)
    return replace(memory, parts=dict(memory.parts) | {"packed weights": packed}) if packed else memory


def _training(
    size: ModelSize, settings: MemorySettings, method: Method, texts: Texts, device: Device
) -> Iterator[Memory]:
    """Peaks of a method's training: its steps, in rows that share no prompts, and sampling between them."""
    spending = method.spending()
    length = min(settings.max_length, max(texts.pair, texts.prompt + texts.sampled if spending.sampled else 0))
    batch = TrainingBatch(
        rows=round(spending.rows * settings.batch_size),
        length=length,
        scored=max(1, length - min(texts.prompt, length // 2)),
        accumulation=settings.gradient_accumulation,
        checkpointing=settings.gradient_checkpointing,
        fused_kernel=device.gpu,
        reference=size.full and spending.reference > 0,
    )
    step = training_memory(size, batch, settings.number)
    whole = {name: step.parts[name] for name in ("weights", "reference")}
    if settings.shards > 1:
        step = sharded_memory(step, size, settings.number, settings.shards)
    elif not size.full or batch.reference:  # weights in training have no copies
        step = _with_copies(step, size, settings, device)
    yield replace(step, moment=f"training step of {method.name}")
    if spending.sampled:
        rows = min(settings.generation_batch_size, round(spending.sampled * settings.batch_size) or 1)
        sampling = sampling_memory(size, rows, texts.prompt, texts.sampled, settings.number)
        lasting = ("weights", "optimiser", "reference", "packed weights")
        held = {name: value for name, value in step.parts.items() if name in lasting}
        if settings.shards > 1:  # each process gathers the weights
            held |= {name: held[name] + value for name, value in whole.items()}
        sampling = Memory(f"sampling in training of {method.name}", dict(sampling.parts) | held)
        yield _by_vllm(sampling, settings, device, held) if settings.vllm is not None else sampling


def _by_vllm(sampling: Memory, settings: MemorySettings, device: Device, held: Mapping[str, float]) -> Memory:
    """The same sampling by vLLM, which has its share of the device beside what this process holds meanwhile."""
    return Memory(sampling.moment, dict(held) | {VLLM: settings.vllm_share * device.memory})


def vllm_least(size: ModelSize, settings: MemorySettings, texts: Texts) -> float:
    """Bytes that vLLM's share must have: its own copy of the weights, the adapter, and the cache of the longest text.

    0 without vLLM, and where its options make the weights smaller.

    Args:
        size: of the model.
        settings: of the recipe.
        texts: the longest.
    """
    if settings.vllm is None or any(settings.vllm.get(key) for key in SHRINKING):
        return 0.0
    dtype = str(settings.vllm.get("dtype", "float32" if settings.precision == "float32" else "bfloat16"))
    number = 4 if dtype in ("float32", "float") else 2
    longest = max(texts.prompt + texts.sampled, texts.question + texts.evaluated)
    cached = 0 if "kv_cache_dtype" in settings.vllm else longest * size.cached
    return float((size.parameters + size.adapter + cached) * number)


def evaluation_memory(size: ModelSize, settings: MemorySettings, texts: Texts, device: Device) -> list[Memory]:
    """Peaks of evaluation: sampling, and log-probabilities of given answers. One policy is in memory at a time.

    Args:
        size: of the model.
        settings: of the recipe.
        texts: the longest.
        device: that holds them.
    """
    number = settings.number
    width = texts.question + texts.evaluated
    rows = max(1, min(settings.generation_batch_size, CACHE_TOKENS // width))
    scored = max(texts.evaluated, texts.pair - texts.prompt)
    sampling = sampling_memory(size, rows, texts.question, texts.evaluated, number)
    if settings.vllm is not None:
        sampling = _by_vllm(sampling, settings, device, {"weights": sampling.parts["weights"]})
    longest = max(texts.question, texts.prompt + scored)
    scoring = scoring_memory(size, settings.scoring_batch_size, longest, scored, number)
    return [_with_copies(moment, size, settings, device) for moment in (sampling, scoring)]


def usable_memory(device: Device, sharing: int) -> float:
    """Bytes that the tensors of one run can have.

    Args:
        device: of the run.
        sharing: runs on the device at the same time. A process holds memory of its own beside its tensors, which
            :data:`GPU_SHARE` covers for one run alone on a GPU.
    """
    alone = device.gpu and sharing == 1
    return device.memory * GPU_SHARE / sharing - (0.0 if alone else PROCESS)


def fitting_settings(
    config: Mapping[str, Any],
    settings: MemorySettings,
    methods: Sequence[Method],
    texts: Texts,
    device: Device,
    usable: float,
) -> str | None:
    """Settings of the recipe that would fit, those that change least first; None if none do.

    Args:
        config: the model's ``config.json``.
        settings: of the recipe, which do not fit.
        methods: that are trained or evaluated.
        texts: the longest.
        device: that holds them.
        usable: bytes that tensors can have.
    """
    for candidate in sorted(_candidates(settings), key=lambda c: _distance(settings, c)):
        shared = _with_share(config, candidate, methods, texts, device, usable)
        moments = peak_memory(config, shared, methods, texts, device)
        size = model_size(config, shared.lora)
        if moments and size and moments[0].total <= usable and vllm_shortage(size, shared, texts, device) <= 0:
            return _in_words(settings, shared)
    return None


def vllm_shortage(size: ModelSize, settings: MemorySettings, texts: Texts, device: Device) -> float:
    """Bytes that vLLM's share is too small by; 0 or less if it is large enough.

    Args:
        size: of the model.
        settings: of the recipe.
        texts: the longest.
        device: that it is a share of.
    """
    return vllm_least(size, settings, texts) - settings.vllm_share * device.memory


def _with_share(
    config: Mapping[str, Any],
    settings: MemorySettings,
    methods: Sequence[Method],
    texts: Texts,
    device: Device,
    usable: float,
) -> MemorySettings:
    """The settings with a share of vLLM, in hundredths, that holds its weights and leaves enough for the rest.

    Unchanged if there is none, or it is right already. One that is too small gets a fifth more than it must have, if
    there is as much, since vLLM computes in it too. Arguments are those of :func:`fitting_settings`.
    """
    size = model_size(config, settings.lora)
    if settings.vllm is None or size is None:
        return settings
    sampling = [m for m in peak_memory(config, settings, methods, texts, device) if VLLM in m.parts]
    beside = max(m.total - m.parts[VLLM] for m in sampling)
    must = vllm_least(size, settings, texts) / device.memory
    least, ample = math.ceil(100 * must) / 100, math.ceil(120 * must) / 100
    most = math.floor(100 * (usable - beside) / device.memory) / 100
    share = min(settings.vllm_share if settings.vllm_share >= must else ample, most)
    if share == settings.vllm_share or share <= 0 or share < least:
        return settings
    return replace(settings, vllm=dict(settings.vllm) | {"gpu_memory_utilization": share})


def _candidates(settings: MemorySettings) -> Iterator[MemorySettings]:
    """Variations of the settings. Smaller batches keep the pairs of a step by accumulating more of them."""
    pairs = settings.batch_size * settings.gradient_accumulation
    batches = [b for b in _halved(settings.batch_size) if pairs % b == 0]
    adapters: list[tuple[LoraSpec | None, str]] = [(settings.lora, settings.precision)]
    if settings.lora is None:
        adapters.append((LoraSpec(r=SMALL_RANK), "bf16"))
    elif settings.precision != "bf16":
        adapters.append((settings.lora, "bf16"))
    lengths = [n for n in _halved(settings.max_length) if n >= min(SHORTEST, settings.max_length)]
    answer_batches, scored_batches = _eased(settings.generation_batch_size), _eased(settings.scoring_batch_size)
    kernels = [settings.attention, "sdpa"] if settings.attention == "eager" else [settings.attention]
    for recomputed, batch, (lora, precision), length, answers, scored, attention in product(
        {settings.gradient_checkpointing, True}, batches, adapters, lengths, answer_batches, scored_batches, kernels
    ):
        yield replace(
            settings,
            batch_size=batch,
            gradient_accumulation=pairs // batch,
            max_length=length,
            lora=lora,
            precision=precision,
            gradient_checkpointing=recomputed,
            generation_batch_size=answers,
            scoring_batch_size=scored,
            attention=attention,
        )


def _halved(value: int) -> list[int]:
    """A number, its half, and so on down to 1."""
    return [value >> i for i in range(value.bit_length())]


def _eased(value: int) -> list[int]:
    """A batch size and three smaller ones."""
    return [max(1, value // by) for by in (1, 4, 16, 64)]


def _distance(ours: MemorySettings, other: MemorySettings) -> float:
    """How much a variation changes: least what gives the same result in more time, most what trains on less text."""
    halvings = (ours.batch_size // other.batch_size).bit_length() - 1
    shortened = (ours.max_length // other.max_length).bit_length() - 1
    changed = 0.5 * (ours.gradient_checkpointing != other.gradient_checkpointing)
    changed += 3 * (ours.attention != other.attention)
    changed += (0.3 if halvings else 0.0) + 0.1 * halvings
    changed += 0.2 * (ours.generation_batch_size // other.generation_batch_size).bit_length()
    changed += 0.2 * (ours.scoring_batch_size // other.scoring_batch_size).bit_length()
    return changed + 4 * (ours.precision != other.precision) + 8 * (ours.lora != other.lora) + 6 * shortened


def _in_words(ours: MemorySettings, other: MemorySettings) -> str:
    """The keys of a variation that differ, as a recipe has them."""
    train = ("batch_size", "gradient_accumulation", "max_length", "gradient_checkpointing", "attention")
    parts = [f"train.lora: {{r: {other.lora.r}}}"] if other.lora and ours.lora != other.lora else []
    for key in (*train, "precision", "generation_batch_size", "scoring_batch_size"):
        if getattr(ours, key) != getattr(other, key):
            value = str(getattr(other, key)).lower() if isinstance(getattr(other, key), bool) else getattr(other, key)
            parts.append(f"{'train.' if key in train else ''}{key}: {value}")
    if ours.vllm_share != other.vllm_share:
        parts.append(f"engine.options.gpu_memory_utilization: {other.vllm_share:g}")
    return ", ".join(parts)
