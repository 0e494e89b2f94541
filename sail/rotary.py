"""Rotary embeddings whose factors depend on the longest sequence of a batch."""

from __future__ import annotations

from typing import Any


def constant_rotary_length(config: Any) -> int | None:
    """Longest sequence up to which a model's rotary factors stay the same; None if they never change.

    Under LongRoPE (Phi-3-128k, Phi-4-mini) and dynamic scaling, transformers chooses the factors of all rows by the
    largest position in the batch. Beyond this length the log-probabilities of a text would depend on the others in its
    batch, and those of an answer on how much of it is in the cache already.

    Args:
        config: of a transformers model.
    """
    inner = config.get_text_config()
    rope = getattr(inner, "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]  # one set for each type of layer
    lengths = [_constant_length(kind, inner) for kind in kinds]
    return min((length for length in lengths if length is not None), default=None)


def _constant_length(rope: dict[str, Any], config: Any) -> int | None:
    kind = str(rope.get("rope_type", ""))
    if kind == "longrope":
        return int(rope.get("original_max_position_embeddings") or config.max_position_embeddings)
    return int(config.max_position_embeddings) if "dynamic" in kind else None
