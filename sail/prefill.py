"""Prompts through the model before the first token is sampled: padding, shared prefixes, the key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

SHARED_PREFIX_MIN = 8


class Padded(NamedTuple):
    """A left-padded batch, prompts flush right: token ids and attention mask, each (B, L)."""

    ids: Tensor
    mask: Tensor


class Prefilled(NamedTuple):
    """Prompts that the model has read, but for their last token.

    Attributes:
        cache: key-value cache.
        tokens: the last tokens, (B, 1).
        mask: attention mask up to and with them, (B, L).
        places: their positions, (B, 1).
    """

    cache: Any
    tokens: Tensor
    mask: Tensor
    places: Tensor


def left_pad(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Padded:
    """Prompts of different lengths as one batch.

    Args:
        prompts: token ids.
        pad_id: token id of the padding, which the mask leaves out.
        device: where the tensors go.
    """
    width = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[row, width - len(prompt) :] = 1
    return Padded(ids.to(device), mask.to(device))


def positions(mask: Tensor) -> Tensor:
    """Position ids of a left-padded batch: 0 at the first real token. Shape of ``mask``."""
    return (mask.cumsum(1) - 1).clamp_min(0)


def backbone(model: Any) -> Any:
    """The model without its LM head, adapters included."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(bare, bare.base_model_prefix)


@torch.no_grad()
def prefill(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    pad_id: int,
    cached_prefix: tuple[tuple[int, ...], Any] | None = None,
) -> Prefilled:
    """Everything of the prompts but their last token, through the backbone only (no LM head).

    A prefix that all prompts share is computed once, and so is each prompt that occurs several times.

    Args:
        model: a transformers causal language model (also wrapped by PEFT).
        prompts: token ids.
        pad_id: token id of the padding.
        cached_prefix: a prefix of all prompts with its key-value cache of one row; the cache is consumed.
    """
    from transformers import DynamicCache

    device = next(model.parameters()).device
    body = backbone(model)
    unique = list(dict.fromkeys(prompts))
    if cached_prefix is not None:
        shared, cache = len(cached_prefix[0]), cached_prefix[1]
    else:
        shared, cache = common_prefix(unique), DynamicCache()
        if shared >= SHARED_PREFIX_MIN:
            prefix = torch.tensor([unique[0][:shared]], device=device)
            body(input_ids=prefix, past_key_values=cache, use_cache=True)
        else:
            shared = 0
    if shared:
        cache.batch_repeat_interleave(len(unique))
    rest = [p[shared:] for p in unique]
    ids, mask = left_pad(rest, pad_id, device)
    mask = torch.cat([mask.new_ones(len(unique), shared), mask], 1)
    if ids.shape[1] > 1:
        body(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions(mask)[:, shared:-1],
            past_key_values=cache,
            use_cache=True,
        )
    row_of = {prompt: i for i, prompt in enumerate(unique)}
    index = torch.tensor([row_of[p] for p in prompts], device=device)
    if len(unique) < len(prompts):
        cache.batch_select_indices(index)
    return Prefilled(cache, ids[index, -1:], mask[index], positions(mask)[index, -1:])


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Length of the prefix that all prompts share, at most one less than the shortest prompt."""
    first, last = min(prompts), max(prompts)
    limit = min(len(p) for p in prompts) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)
