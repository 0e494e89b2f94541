"""Prompts through the model before the first token is sampled: padding, shared prefixes, the key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
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
    name_backbone(bare)
    return getattr(bare, bare.base_model_prefix)


def name_backbone(model: Any) -> None:
    """Correct a ``base_model_prefix`` that names no part of the model, as that of Llama 4's text model: TRL's fused LM
    head goes by it too."""
    if not hasattr(model, model.base_model_prefix) and hasattr(model, "model"):
        model.base_model_prefix = "model"


@torch.no_grad()
def prefill(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    pad_id: int,
    cached_prefix: tuple[tuple[int, ...], Any] | None = None,
) -> Prefilled:
    """Everything of the prompts but their last token, through the backbone only (no LM head).

    A prefix that all prompts share is computed once, and so is each prompt that occurs several times. Each row of the
    cache is padded on its left only, so that the places between two tokens are as many as in the prompt itself: a
    sliding window, attention in chunks and ALiBi count places.

    Args:
        model: a transformers causal language model (also wrapped by PEFT).
        prompts: token ids.
        pad_id: token id of the padding.
        cached_prefix: a prefix of all prompts, shorter than each, with its key-value cache of one row, which is left
            as it is.
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
    ids, mask = left_pad(unique, pad_id, device)
    if shared:
        cache = shifted_rows(cache, shared, [ids.shape[1] - len(p) for p in unique])
    if ids.shape[1] - shared > 1:
        body(
            input_ids=ids[:, shared:-1],
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


def shifted_rows(cache: Any, length: int, shifts: Sequence[int]) -> Any:
    """A new cache with a row for each shift: ``shifts[i]`` empty places, then the first tokens of the one row given.

    What a shift pushes out at the end is for the caller to compute again, in the place of padding.

    Args:
        cache: of one row with ``length`` tokens; it is left as it is.
        length: places of the new rows.
        shifts: empty places at the beginning of each new row.
    """
    rows = copy(cache)
    rows.layers = [copy(layer) for layer in cache.layers]
    for layer in rows.layers:
        if layer.is_initialized:
            layer.keys, layer.values = (_shifted(states, length, shifts) for states in (layer.keys, layer.values))
    return rows


def _shifted(states: Tensor, length: int, shifts: Sequence[int]) -> Tensor:
    """Keys or values (1, heads, length, width) as rows (R, heads, length, width); see :func:`shifted_rows`."""
    most = max(shifts)
    if not most:
        return states.expand(len(shifts), *states.shape[1:])
    padded = torch.nn.functional.pad(states, (0, 0, most, 0))
    return torch.cat([padded.narrow(-2, most - shift, length) for shift in shifts])


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Length of the prefix that all prompts share, at most one less than the shortest prompt."""
    first, last = min(prompts), max(prompts)
    limit = min(len(p) for p in prompts) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)
