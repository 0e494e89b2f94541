"""Floating-point operations of a decoder-only transformer, from the shapes that pass through it.

A product of an (m, k) and a (k, n) matrix is 2 m k n operations; norms, activations and the softmax are left out, and
attention counts all positions (a causal kernel may skip half), both as in ``torch.utils.flop_counter``, against which
the tests check these counts. Padding is computed, so it counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

BLOCK = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")

READERS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn")


@dataclass(frozen=True)
class Linear:
    """A linear layer of a block.

    Attributes:
        block: number of the block, from the bottom.
        fan_in: size of its input.
        fan_out: size of its output.
        trained: whether its own weight is trained.
        rank: of its active adapter; 0 if there is none.
        adapter_trained: whether that adapter is trained.
        reads_input: whether it reads the block's input, and so depends on no other layer of the block.
        experts: how many such layers with an adapter each are kept in one weight; 1 outside of a mixture of experts.
        routed: how many of them a token goes through.
    """

    block: int
    fan_in: int
    fan_out: int
    trained: bool
    rank: int
    adapter_trained: bool
    reads_input: bool
    experts: int = 1
    routed: int = 1


@dataclass(frozen=True)
class Shape:
    """What the counts need of a model.

    Attributes:
        linears: the linear layers of all blocks.
        layers: number of blocks.
        heads: attention heads of a block.
        head_dim: width of an attention head.
        hidden: width of the residual stream.
        vocabulary: outputs of the LM head; 0 if there is no head.
        head_trained: whether the LM head is trained.
        bottom: the lowest block whose backward training needs (-1: the embeddings too; ``layers``: none).
        reached: the lowest whose backward is computed, where gradient checkpointing goes further down; else None.
    """

    linears: tuple[Linear, ...]
    layers: int
    heads: int
    head_dim: int
    hidden: int
    vocabulary: int
    head_trained: bool
    bottom: int
    reached: int | None = None

    @property
    def computed(self) -> Shape:
        """The shape whose backward is what the machine computes."""
        return self if self.reached is None else replace(self, bottom=self.reached, reached=None)


def shape_of(model: Any) -> Shape:
    """The shape of a transformers language model (not of its PEFT wrapper) as it is now: which weights train, which
    adapters are active. A reward model has no LM head."""
    from torch import nn

    config = model.config.get_text_config()
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    linears = []
    for name, module in model.named_modules():
        block = BLOCK.search(f".{name}.")
        if block is None or ".lora_" in name or name.endswith("base_layer"):
            continue
        adapted = isinstance(getattr(module, "r", None), dict) and hasattr(module, "base_layer")
        inner = module.base_layer if adapted else module
        if isinstance(inner, nn.Linear):
            fan_in, fan_out = inner.in_features, inner.out_features
        elif type(inner).__name__ == "Conv1D":  # GPT-2's layout
            fan_in, fan_out = inner.weight.shape
        else:
            continue
        active = [a for a in module.active_adapters if a in module.r] if adapted else []
        if adapted and (module.disable_adapters or module.merged):
            active = []
        linears.append(
            Linear(
                block=int(block[1]),
                fan_in=int(fan_in),
                fan_out=int(fan_out),
                trained=inner.weight.requires_grad,
                rank=sum(module.r[a] for a in active),
                adapter_trained=any(module.lora_A[a].weight.requires_grad for a in active),
                reads_input=name.rsplit(".", 1)[-1] in READERS,
            )
        )
    linears += _experts(model, config)
    layers = int(config.num_hidden_layers)
    trained = [n.block for n in linears if n.trained or n.adapter_trained]
    bottom = -1 if embeddings.weight.requires_grad else min(trained, default=layers)
    through = getattr(model, "_require_grads_hook", None) is not None
    heads = int(config.num_attention_heads)
    return Shape(
        linears=tuple(linears),
        layers=layers,
        heads=heads,
        head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        hidden=int(config.hidden_size),
        vocabulary=0 if head is None else int(head.weight.shape[0]),
        head_trained=head is not None and bool(head.weight.requires_grad),
        bottom=bottom,
        reached=-1 if through and bottom > -1 else None,
    )


def _experts(model: Any, config: Any) -> list[Linear]:
    """The weights that hold one matrix for each expert of a block. A token goes through the experts that it is routed
    to, so that these alone are counted."""
    adapters = {id(m.get_param()): m for m in model.modules() if hasattr(m, "parameter_name") and hasattr(m, "lora_A")}
    linears = []
    for name, weight in model.named_parameters():
        block = BLOCK.search(f".{name}")
        if block is None or weight.ndim != 3 or "expert" not in name or ".lora_" in name:
            continue
        experts, fan_in, fan_out = weight.shape
        adapter = adapters.get(id(weight))
        on = adapter is not None and not adapter.disable_adapters and not adapter.merged
        active = [a for a in adapter.active_adapters if a in adapter.r] if adapter is not None and on else []
        linears.append(
            Linear(
                block=int(block[1]),
                fan_in=fan_in,
                fan_out=fan_out,
                trained=weight.requires_grad,
                rank=sum(adapter.r[a] for a in active) if adapter is not None else 0,
                adapter_trained=adapter is not None and any(adapter.lora_A[a].weight.requires_grad for a in active),
                reads_input=False,
                experts=experts,
                routed=min(experts, int(getattr(config, "num_experts_per_tok", None) or experts)),
            )
        )
    return linears


@lru_cache
def _per_token(shape: Shape) -> tuple[int, int]:
    """Operations a token of all linear layers: forward, backward.

    A frozen weight costs the gradient of its input, a trained one its own as well; an adapter costs the gradients that
    flow through its two factors and, if trained, those of the factors. What reads the input of the lowest trained block
    needs no gradient of that input.
    """
    forward = backward = 0
    for n in shape.linears:
        forward += n.routed * (n.fan_in * n.fan_out + n.rank * (n.fan_in + n.fan_out))
        if n.block < shape.bottom:
            continue
        flows = n.block > shape.bottom or not n.reads_input
        own = n.fan_in * n.fan_out * (flows + n.trained)
        own += n.rank * (n.fan_in * (flows + n.adapter_trained) + n.fan_out * (1 + n.adapter_trained))
        backward += n.routed * own
    return 2 * forward, 2 * backward


def attention(shape: Shape, rows: int, length: int, cached: int = 0) -> int:
    """Operations of one block's attention: scores and weighted values.

    Args:
        shape: of the model.
        rows: sequences.
        length: new positions of each.
        cached: positions of each in the key-value cache.
    """
    return 4 * rows * shape.heads * length * (cached + length) * shape.head_dim


def forward(shape: Shape, rows: int, length: int, cached: int = 0) -> int:
    """Operations of all blocks forward.

    Args:
        shape: of the model.
        rows: sequences.
        length: new positions of each.
        cached: positions of each in the key-value cache.
    """
    return rows * length * _per_token(shape)[0] + shape.layers * attention(shape, rows, length, cached)


def backward(shape: Shape, rows: int, length: int) -> int:
    """Operations of all blocks backward, from the top to the lowest trained weight.

    Attention costs 2.5 times its forward: a fused kernel computes the scores again.

    Args:
        shape: of the model.
        rows: sequences.
        length: positions of each.
    """
    if shape.bottom >= shape.layers:
        return 0
    blocks = shape.layers - max(0, shape.bottom)
    return rows * length * _per_token(shape)[1] + blocks * 5 * attention(shape, rows, length) // 2


def head(shape: Shape, positions: int) -> int:
    """Operations of the LM head on so many positions."""
    return 2 * positions * shape.hidden * shape.vocabulary


def head_backward(shape: Shape, positions: int, *, fused: bool) -> int:
    """Operations of the LM head backward: the gradient of its input and, if trained, of its weight.

    Args:
        shape: of the model.
        positions: scored.
        fused: whether it is TRL's fused head, which keeps no logits and so projects again.
    """
    return (fused + 1 + shape.head_trained) * head(shape, positions)


def shape_of_config(config: Mapping[str, Any], lora_layers: int | None, rank: int) -> Shape:
    """The shape of a Llama-like model from its ``config.json``, before anything is loaded.

    Args:
        config: the parsed ``config.json``.
        lora_layers: top blocks that get an adapter of this ``rank`` (0: all); None trains all weights.
        rank: of the adapter.
    """
    hidden, layers, heads = (int(config[k]) for k in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    dim = int(config.get("head_dim") or hidden // heads)
    narrow = dim * int(config.get("num_key_value_heads") or heads)
    inner = int(config["intermediate_size"])
    sizes = [(hidden, dim * heads, True), (hidden, narrow, True), (hidden, narrow, True), (dim * heads, hidden, False)]
    sizes += [(hidden, inner, False), (hidden, inner, False), (inner, hidden, False)]
    full = lora_layers is None
    bottom = 0 if full or not lora_layers else max(0, layers - lora_layers)
    linears = [
        Linear(block, a, b, full, rank if not full and block >= bottom else 0, not full and block >= bottom, reads)
        for block in range(layers)
        for a, b, reads in sizes
    ]
    return Shape(tuple(linears), layers, heads, dim, hidden, int(config["vocab_size"]), full, -1 if full else bottom)
