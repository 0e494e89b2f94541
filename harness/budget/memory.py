"""How much memory a device needs, by part and by moment, from a model's size and a few settings. Pure.

Counted as torch's allocator counts: tensors, without the context of a GPU and without fragmentation. The formulas
follow transformers' blocks (RMS norms, rotary attention by a fused kernel or eager, a gated MLP) and TRL's fused LM
head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.budget.flops import Shape
from harness.budget.model_size import ModelSize

HEAD_TOKENS, HEAD_VOCABULARY = 4096, 32768
"""Tokens, and entries of the vocabulary, of which TRL's fused head holds logits at once."""


LOGITS_AT_ONCE = 1 << 26
"""Most elements of the logits that are in memory at once when given answers are scored: positions times vocabulary."""

LEAST_PACKED = 1 << 17
"""Entries of a weight of which a CPU keeps a packed copy (:mod:`harness.answer.packed_weights`)."""

PACKED_SHARE = 1 / 8
"""Most of a run's memory that the packed copies of one model may take."""


@dataclass(frozen=True)
class Bytes:
    """Bytes a number.

    Attributes:
        weight: of a weight that does not train.
        trained: of one that does, and of its gradient.
        optimiser: of the optimiser's states of one trained weight.
        compute: of matrix products.
        stream: of the hidden states between blocks.
        tf32: whether a GPU may multiply float32 matrices by TF32.
        eager: whether attention holds its scores, as ``attention: eager`` does; a fused kernel holds none.
    """

    weight: int = 4
    trained: int = 4
    optimiser: float = 8
    compute: int = 4
    stream: int = 4
    tf32: bool = False
    eager: bool = False


PRECISIONS: Mapping[str, Bytes] = {
    "float32": Bytes(),
    "bf16-mixed": Bytes(compute=2),  # float32 weights under autocast
    "bf16": Bytes(weight=2, compute=2, stream=2),  # a frozen base, with float32 adapters under autocast
}


@dataclass(frozen=True)
class TrainingBatch:
    """What goes through the model at once in training.

    Attributes:
        rows: sequences of a micro-batch.
        length: tokens of its rows, padding included.
        scored: tokens of a row whose log-probability counts.
        accumulation: micro-batches of an optimiser step.
        checkpointing: whether activations are computed again in the backward pass.
        fused_kernel: whether the LM head has kernels that work in place (a GPU).
        reference: whether a second copy of the model is in memory.
    """

    rows: int
    length: int
    scored: int
    accumulation: int = 1
    checkpointing: bool = False
    fused_kernel: bool = True
    reference: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes by part at the moment of the peak.

    Attributes:
        moment: what is under way.
        parts: bytes by part.
    """

    moment: str
    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        """Bytes in all."""
        return sum(self.parts.values())


def training_memory(size: ModelSize, batch: TrainingBatch, number: Bytes) -> Memory:
    """The peak of a training step: at the start of the backward pass, at its end, or in the backward of one block.

    Args:
        size: of the model.
        batch: what goes through it.
        number: bytes a number.
    """
    base = 0 if size.full else size.parameters * number.weight
    held = {
        "weights": base + size.trained * number.trained,
        "optimiser": size.trained * number.optimiser,
        "reference": size.parameters * number.weight if batch.reference else 0.0,
    }
    gradients = float(size.trained * number.trained)
    tokens = batch.rows * batch.length
    kept, block = activations(size, batch, number)
    casts = cast_weights(size, batch, number)
    before = gradients if batch.accumulation > 1 else 0.0
    head = head_memory(size, batch, number)
    embedding = size.embedding * number.trained if size.full else 0.0
    top = {"activations": kept + casts, "logits": head, "gradients": max(before, 0.0)}
    block_work = block_backward(size, batch, number) + (block if batch.checkpointing else 0.0)
    middle = {
        "activations": kept + casts + block_work,
        "logits": 0.0,
        "gradients": max(before, embedding),
    }
    bottom = {
        "activations": block_work
        + tokens * size.shape.hidden * number.stream
        + (0.0 if batch.checkpointing else block),
        "logits": 0.0,
        "gradients": gradients + (embedding if size.tied else 0.0),
    }
    return max((Memory("training step", held | moment) for moment in (top, middle, bottom)), key=lambda m: m.total)


def sharded_memory(step: Memory, size: ModelSize, number: Bytes, shards: int) -> Memory:
    """A training step's memory where processes share out weights, gradients and the optimiser's states (FSDP2, ZeRO 3).

    Beside its share, each holds two blocks whole (the one at work, and the next), and the embeddings with the head.

    Args:
        step: of a process that holds all.
        size: of the model.
        number: bytes a number.
        shards: processes.
    """
    shared = ("weights", "optimiser", "reference", "gradients")
    parts = {name: value / shards if name in shared else value for name, value in step.parts.items()}
    byte = number.trained if size.full else number.weight
    ends = size.embedding * (1 if size.tied else 2)
    block = (size.parameters - ends) / size.shape.layers
    return Memory(step.moment, parts | {"gathered weights": (2 * block + ends) * byte})


def activations(size: ModelSize, batch: TrainingBatch, number: Bytes) -> tuple[float, float]:
    """Bytes of activations that the forward keeps for the backward, and those of one block alone.

    Args:
        size: of the model.
        batch: what goes through it.
        number: bytes a number.
    """
    shape, tokens = size.shape, batch.rows * batch.length
    block = tokens * _block_bytes(size, number)
    if number.eager:
        block += _scores(size, batch.rows, batch.length) * (4 + _half_copy(number))
    stream = tokens * shape.hidden * number.stream
    final = tokens * shape.hidden * (number.stream + 4 * size.full) + batch.rows * batch.scored * shape.hidden * 4
    if batch.checkpointing:
        return shape.layers * stream + final, block
    return (shape.layers - max(0, shape.bottom)) * block + stream + final, block


def _block_bytes(size: ModelSize, number: Bytes) -> float:
    """Bytes a token that one block keeps without checkpointing.

    A norm keeps its input in float32, and its normalised input where its weight trains. A linear layer keeps its input
    if its weight or adapter trains; where the stream is in float32, autocast makes a copy of it for each layer that
    reads it. The fused attention keeps queries, keys and values (repeated to all heads, since padding needs a mask)
    and its output; the gated MLP keeps four vectors of its width.
    """
    shape, compute = size.shape, number.compute
    wide, hidden = shape.heads * shape.head_dim, shape.hidden
    norms = 2 * hidden * (4 + (number.stream if size.full else 0))
    read = hidden * compute * (2 if number.stream == compute else 5)
    attention = 5 * wide * compute + 4 * shape.heads
    adapters = 0 if size.full else compute * max((n.rank for n in shape.linears), default=0) * 7
    return norms + read + attention + _mlp_bytes(size, number) + adapters


def _mlp_bytes(size: ModelSize, number: Bytes) -> float:
    """Bytes a token that the MLP of one block keeps without checkpointing."""
    return 4.0 * size.inner * number.compute


def block_backward(size: ModelSize, batch: TrainingBatch, number: Bytes) -> float:
    """Bytes of gradients of activations while one block's backward runs: of the MLP's vectors, and of the stream.

    Or, if these are more, of eager attention's scores before and after the softmax, when the MLP's vectors are free.

    Args:
        size: of the model.
        batch: what goes through it.
        number: bytes a number.
    """
    tokens = batch.rows * batch.length
    mlp = tokens * 2 * size.inner * number.compute
    scores = 0.0
    if number.eager:
        scores = _scores(size, batch.rows, batch.length) * (2 * 4 - _half_copy(number))
        scores -= tokens * _mlp_bytes(size, number)
    return max(mlp, scores) + tokens * 2 * size.shape.hidden * number.stream


def _scores(size: ModelSize, rows: int, length: int) -> int:
    """Scores of one block's attention: of each head, between all positions of each row."""
    return rows * size.shape.heads * length**2


def _half_copy(number: Bytes) -> int:
    """Bytes of the copy in half precision of what the softmax gives in float32; none where it is multiplied so."""
    return number.compute if number.compute < 4 else 0


def _forward_block(size: ModelSize, rows: int, length: int, number: Bytes) -> float:
    """Bytes of what one block computes forward, without gradients: the MLP's vectors, or eager attention's scores.

    Scores are held before the softmax (converted to float32) and after it, and a mask is held for all blocks.
    """
    tokens, hidden, compute = rows * length, size.shape.hidden, number.compute
    mlp = float(tokens * (3 * size.inner + 4 * hidden) * compute)
    if not number.eager:
        return mlp
    scores = _scores(size, rows, length) * (compute + 4 + (4 if compute < 4 else 0))
    attention = tokens * (4 * size.shape.heads * size.shape.head_dim + 2 * hidden) * compute
    return max(mlp, attention + scores) + rows * length**2 * number.stream


def cast_weights(size: ModelSize, batch: TrainingBatch, number: Bytes) -> float:
    """Bytes of the bfloat16 copies of float32 weights that autocast keeps until the backward has used them.

    Args:
        size: of the model.
        batch: with checkpointing they are made again block by block, but for those that train.
        number: bytes a number.
    """
    if number.trained == number.compute:
        return 0.0
    adapters = 0 if size.full else size.trained
    weights = size.parameters - size.embedding * (1 if size.tied else 2) if number.weight > number.compute else 0
    if batch.checkpointing and not size.full:
        weights //= max(1, size.shape.layers)
    return float((weights + adapters) * number.compute)


def head_memory(size: ModelSize, batch: TrainingBatch, number: Bytes) -> float:
    """Bytes of the fused LM head in its backward: a tile of logits, and gradients of its input and its weight.

    Args:
        size: of the model.
        batch: what goes through it.
        number: bytes a number.
    """
    scored = batch.rows * batch.scored
    tile = min(scored, HEAD_TOKENS) * HEAD_VOCABULARY
    used = min(scored, HEAD_TOKENS) * min(size.shape.vocabulary, HEAD_VOCABULARY)
    in_place = batch.fused_kernel or number.compute == 4  # on a CPU by sail.head_tiles
    temporary = 0 if in_place else 7 * used * 4
    trained = size.embedding * 4 if size.full else 0
    return tile * number.compute + temporary + scored * size.shape.hidden * 4 + trained


def sampling_memory(size: ModelSize, rows: int, prompt: int, answer: int, number: Bytes) -> Memory:
    """The peak of sampling with a key-value cache, the policy alone in memory.

    Args:
        size: of the model.
        rows: answers sampled at once.
        prompt: tokens of the longest prompt; answer: most tokens of an answer.
        number: bytes a number.
    """
    cache = rows * (prompt + answer) * size.cached * number.stream
    grown = cache / size.shape.layers  # the cache of a layer is copied when it grows
    logits = rows * size.shape.vocabulary * (number.compute + 3 * 4)
    prefill = _forward_block(size, rows, prompt, number)
    casts = cast_weights(size, TrainingBatch(rows, prompt, 1), number)
    parts = {
        "weights": float(size.parameters * number.weight),
        "key-value cache": cache + grown,
        "logits": float(logits),
        "activations": prefill + casts,
    }
    return Memory("sampling", parts)


def scoring_memory(
    size: ModelSize, rows: int, length: int, scored: int, number: Bytes, at_once: int = LOGITS_AT_ONCE
) -> Memory:
    """The peak of log-probabilities of given answers.

    Args:
        size: of the model.
        rows: of a forward pass.
        length: tokens of a row; scored: those whose log-probability counts.
        number: bytes a number.
        at_once: elements of the logits in memory at once.
    """
    tokens, hidden = rows * length, size.shape.hidden
    elements = min(rows * scored * size.shape.vocabulary, max(at_once, size.shape.vocabulary))
    logits = float(elements * ((2 if number.compute == 2 else 0) + 2 * 4))
    blocks = _forward_block(size, rows, length, number)
    last = float((tokens + rows * scored) * hidden * number.stream)  # hidden states, when the blocks are done
    casts, at_end = cast_weights(size, TrainingBatch(rows, length, scored), number), logits + last > blocks
    parts = {
        "weights": float(size.parameters * number.weight),
        "logits": logits if at_end else 0.0,
        "activations": casts + (last if at_end else blocks),
    }
    return Memory("scoring of log-probabilities", parts)


def checkpointed(shape: Shape) -> int:
    """The lowest block whose backward is computed with gradient checkpointing: all of them."""
    return -1 if shape.bottom > -1 else shape.bottom


def packed_memory(size: ModelSize, number: Bytes, memory: float) -> float:
    """Bytes of the packed copies of a model's weights on a CPU; 0 where there are none.

    Args:
        size: of the model.
        number: bytes a number.
        memory: bytes of the machine's main memory that are one run's.
    """
    if (number.weight, number.compute) != (4, 4):
        return 0.0
    weights = [size.embedding, *(n.fan_in * n.fan_out for n in size.shape.linears if n.experts == 1)]
    copies = 4.0 * sum(weight for weight in weights if weight >= LEAST_PACKED)
    return copies if may_pack(copies, memory) else 0.0


def may_pack(size: float, memory: float) -> bool:
    """Whether the packed copies of a model's weights are small enough beside a run's memory.

    Args:
        size: bytes of the copies.
        memory: bytes of the machine's main memory that are one run's.
    """
    return size <= PACKED_SHARE * memory
