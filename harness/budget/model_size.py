"""How many weights a model has and where, from its ``config.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.budget.flops import Shape, shape_of, shape_of_config

LLAMA_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
BY_FORMULA: Mapping[str, tuple[str, ...]] = {
    "llama": (),
    "mistral": ("num_key_value_heads",),
    "qwen2": ("num_key_value_heads",),
    "qwen3": ("num_key_value_heads", "head_dim"),
    "smollm3": ("num_key_value_heads", "tie_word_embeddings"),
}
"""Types that are laid out like Llama, so that the formulas count every weight; and their fields whose defaults differ
from Llama's (as many heads of keys as of queries, which share the width; embeddings that are not tied)."""


@dataclass(frozen=True)
class ModelSize:
    """A decoder-only transformer.

    Attributes:
        shape: for its operations, with the adapter that trains, if one does.
        parameters: all weights, the adapter's left out.
        inner: width of the MLP.
        kv_heads: heads of keys and values.
        tied: whether the LM head is the embedding matrix.
    """

    shape: Shape
    parameters: int
    inner: int
    kv_heads: int
    tied: bool

    @property
    def adapter(self) -> int:
        """Weights of the adapter; 0 without one."""
        return sum(n.experts * n.rank * (n.fan_in + n.fan_out) for n in self.shape.linears)

    @property
    def full(self) -> bool:
        """Whether all weights train."""
        return self.shape.head_trained

    @property
    def trained(self) -> int:
        """Weights that train."""
        return self.parameters if self.full else self.adapter

    @property
    def embedding(self) -> int:
        """Weights of the embedding matrix."""
        return self.shape.vocabulary * self.shape.hidden

    @property
    def cached(self) -> int:
        """Numbers that the key-value cache holds of one token."""
        return 2 * self.shape.layers * self.kv_heads * self.shape.head_dim


def size_of_config(config: Mapping[str, Any], lora_layers: int | None, rank: int) -> ModelSize | None:
    """The size of a model: by formula if it is laid out like Llama, else by building it without weights.

    What ``config.json`` does not say has the default of the model's own type in transformers.

    Args:
        config: the parsed ``config.json``.
        lora_layers: top blocks that get an adapter of this ``rank`` (0: all); None trains all weights.
        rank: of the adapter.

    Returns:
        None if transformers does not know such a model.
    """
    text = config.get("text_config") or config
    kind = text.get("model_type", "llama")
    if kind not in BY_FORMULA or not all(key in text for key in (*LLAMA_KEYS, *BY_FORMULA[kind])):
        return _built(config, lora_layers, rank)
    shape = shape_of_config(text, lora_layers, rank)
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    kv_heads = int(text.get("num_key_value_heads") or shape.heads)
    count = sum(n.fan_in * n.fan_out for n in shape.linears) + (1 if tied else 2) * shape.vocabulary * shape.hidden
    count += (2 * shape.layers + 1) * shape.hidden
    inner = int(text["intermediate_size"])
    if text.get("attention_bias") or kind == "qwen2":  # its configuration does not show it
        count += shape.layers * (shape.heads + 2 * kv_heads) * shape.head_dim
    if text.get("attention_bias"):
        count += shape.layers * shape.hidden
    if text.get("mlp_bias"):
        count += shape.layers * (2 * inner + shape.hidden)
    if kind == "qwen3":  # norms of queries and keys
        count += 2 * shape.layers * shape.head_dim
    return ModelSize(shape, count, inner, kv_heads, tied)


def _built(config: Mapping[str, Any], lora_layers: int | None, rank: int) -> ModelSize | None:
    """From the model itself on the meta device, which takes seconds for the import of transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        configuration = AutoConfig.for_model(**config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(configuration)
    except Exception:  # noqa: BLE001 - configurations and models check themselves with many kinds of errors
        return None
    text, shape = configuration.get_text_config(), shape_of(model)
    full = lora_layers is None
    bottom = -1 if full else max(0, shape.layers - lora_layers) if lora_layers else 0
    linears = tuple(
        replace(n, trained=full, rank=0 if full or n.block < bottom else rank, adapter_trained=not full)
        for n in shape.linears
    )
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    inner = max((max(n.fan_in, n.fan_out) for n in linears if n.fan_in != n.fan_out), default=shape.hidden)
    return ModelSize(
        replace(shape, linears=linears, head_trained=full, bottom=bottom),
        sum(p.numel() for p in model.parameters()),
        int(getattr(text, "intermediate_size", None) or inner),
        int(getattr(text, "num_key_value_heads", None) or shape.heads),
        head is not None and head.weight is embeddings.weight,
    )
