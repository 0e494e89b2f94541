"""When the two rows of a pair may share the computation of their prompt, and when it pays. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ATTENTION = ("sdpa", "eager")
"""Attention implementations that take a mask of any form."""

MOST_MASK_ENTRIES = 1 << 26
"""Entries of the mask (pairs times tokens of a packed row squared) up to which prompts are shared: 256 MiB as float32,
which a mask becomes in some kernels. It is four pairs of 4,096 tokens."""

LAYER_TYPES = ("full_attention", "sliding_attention")

WINDOWS = (
    *("attention_window", "window_size", "sliding_window_size", "sliding_windows", "local_attention"),
    *("attention_chunk_size", "chunk_size", "block_size", "index_topk"),
)
"""Fields of configurations by which a layer restricts attention itself, by the places of tokens in a row or by their
number. A packed row has more places than the rows that it stands for."""


def plain_because(config: Mapping[str, Any], attention: str | None) -> str | None:
    """Why a model gets plain rows, by its configuration; None if nothing there speaks against sharing.

    Args:
        config: as in ``config.json``.
        attention: implementation of attention; None for transformers' choice, which is one that fits.
    """
    if attention is not None and attention not in ATTENTION:
        return f"{attention} takes no mask of any form"
    if isinstance(config.get("text_config"), Mapping):
        return "it is a model of text and something else"
    others = sorted({str(kind) for kind in config.get("layer_types") or ()} - set(LAYER_TYPES))
    if others:
        return f"it has layers of type {others[0]}"
    if config.get("is_causal") is False or config.get("use_bidirectional_attention"):
        return "its attention is not causal"
    if config.get("output_router_logits"):
        return "its routers' loss counts each token of each row"
    windows = [name for name in WINDOWS if config.get(name)]
    return f"its attention is restricted by {windows[0]}" if windows else None


def longest_shared(config: Mapping[str, Any]) -> int | None:
    """Tokens of a row up to which a model's sliding window does nothing; None if it has no window.

    Args:
        config: as in ``config.json``.
    """
    if config.get("use_sliding_window") is False or not config.get("sliding_window"):
        return None
    return int(config["sliding_window"])


def mask_fits(pairs: int, packed: float) -> bool:
    """Whether the mask of packed rows is small enough (:data:`MOST_MASK_ENTRIES`).

    Args:
        pairs: of the batch.
        packed: tokens of its packed rows, one a pair, padding included.
    """
    return pairs * packed**2 <= MOST_MASK_ENTRIES


def sharing_pays(length: float, packed: float, hidden: int) -> bool:
    """Whether a packed row is less work than two plain ones.

    A block of width d has about 12 d^2 weights, so that a token of a row of n tokens costs 24 d^2 + 4 n d operations
    forward: in proportion 6 d + n.

    Args:
        length: tokens of a plain row, padding included.
        packed: tokens of a packed row, padding included.
        hidden: width of the model.
    """
    return packed * (6 * hidden + packed) < 2 * length * (6 * hidden + length)


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two rows have in common at the beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))
