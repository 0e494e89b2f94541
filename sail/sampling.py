"""Batched sampling from a causal language model with keyed noise, keeping token ids and their log-probabilities.

One uniform per generated token picks the token by inverting the cumulative distribution, which is exact sampling at
temperature 1 without truncation. The uniform is keyed by the request, so a row does not depend on its batch.
Finished rows leave the batch, so that short answers cost little; a batch of long rows has fewer of them, so that
its key-value cache stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from sail.noise import uniforms
from sail.types import Completion, Request

SHARED_PREFIX_MIN = 8
CACHE_TOKENS = 1 << 16


def left_pad(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of shape (B, L), prompts flush right."""
    width = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def positions(mask: Tensor) -> Tensor:
    """Position ids of a left-padded batch: 0 at the first real token. Shape of ``mask``."""
    return (mask.cumsum(1) - 1).clamp_min(0)


@torch.no_grad()
def sample(
    model: Any,
    requests: Sequence[Request],
    *,
    eos_ids: Sequence[int],
    pad_id: int,
    batch_size: int = 64,
    on_rows: Callable[[list[int], list[Completion]], None] | None = None,
) -> list[Completion]:
    """Sample one completion for each request, in request order.

    Args:
        model: a transformers causal language model (also wrapped by PEFT); it is used in eval mode and put back.
        eos_ids: ids that end an answer; the one generated is kept as the last id.
        batch_size: most rows at once; fewer where prompts and answers together could pass ``CACHE_TOKENS`` tokens.
        on_rows: called after each batch with the indices and completions that are finished (for caching, progress).
    """
    if not eos_ids:
        raise ValueError("sampling needs at least one end-of-sequence id: the model has none")
    was_training = model.training
    model.eval()
    done: list[Completion | None] = [None] * len(requests)
    order = sorted(
        range(len(requests)), key=lambda i: (requests[i].max_new_tokens, len(requests[i].prompt), requests[i].prompt)
    )
    try:
        for rows in batches(order, requests, batch_size):
            batch = _sample_batch(model, [requests[i] for i in rows], set(eos_ids), pad_id)
            for index, completion in zip(rows, batch, strict=True):
                done[index] = completion
            if on_rows is not None:
                on_rows(rows, batch)
    finally:
        model.train(was_training)
    return [c for c in done if c is not None]


def batches(order: Sequence[int], requests: Sequence[Request], size: int) -> Iterator[list[int]]:
    """Consecutive rows of ``order``, at most ``size``, never mixing different ``max_new_tokens``.

    Rows times the longest prompt with its answer stay within ``CACHE_TOKENS``, but for a single row that is longer.
    """
    for most, group in groupby(order, key=lambda i: requests[i].max_new_tokens):
        rows: list[int] = []
        width = 0
        for index in group:
            grown = max(width, len(requests[index].prompt) + most)
            if rows and (len(rows) == size or (len(rows) + 1) * grown > CACHE_TOKENS):
                yield rows
                rows, grown = [], len(requests[index].prompt) + most
            rows.append(index)
            width = grown
        yield rows


def backbone(model: Any) -> Any:
    """The model without its LM head, adapters included."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(bare, bare.base_model_prefix)


@torch.no_grad()
def prefill(
    model: Any, prompts: Sequence[tuple[int, ...]], pad_id: int, known: tuple[tuple[int, ...], Any] | None = None
) -> tuple[Any, Tensor, Tensor, Tensor]:
    """Everything of the prompts but their last token, through the backbone only (no LM head).

    A prefix that all prompts share is computed once, and so is each prompt that occurs several times. ``known``: such
    a prefix with its key-value cache of one row, computed before; the cache is consumed.

    Returns:
        key-value cache, last tokens (B, 1), attention mask up to and with them (B, L), their positions (B, 1).
    """
    from transformers import DynamicCache

    device = next(model.parameters()).device
    body = backbone(model)
    unique = list(dict.fromkeys(prompts))
    if known is not None:
        shared, cache = len(known[0]), known[1]
    else:
        shared, cache = common_prefix(unique), DynamicCache()
        if shared >= SHARED_PREFIX_MIN:
            head = torch.tensor([unique[0][:shared]], device=device)
            body(input_ids=head, past_key_values=cache, use_cache=True)
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
    where = {prompt: i for i, prompt in enumerate(unique)}
    index = torch.tensor([where[p] for p in prompts], device=device)
    if len(unique) < len(prompts):
        cache.batch_select_indices(index)
    return cache, ids[index, -1:], mask[index], positions(mask)[index, -1:]


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Length of the prefix that all prompts share, at most one less than the shortest prompt."""
    first, last = min(prompts), max(prompts)
    limit = min(len(p) for p in prompts) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def _sample_batch(model: Any, requests: list[Request], eos: set[int], pad_id: int) -> list[Completion]:
    from sail.kvcache import with_room

    device = next(model.parameters()).device
    longest = max(r.max_new_tokens for r in requests)
    noise = torch.zeros(len(requests), longest, dtype=torch.float64)
    for row, request in enumerate(requests):
        noise[row, : request.max_new_tokens] = torch.from_numpy(uniforms(request.key, request.max_new_tokens))
    noise = noise.to(device)
    temperature = torch.tensor([r.temperature for r in requests], dtype=torch.float32, device=device)
    ids: list[list[int]] = [[] for _ in requests]
    logps: list[list[float]] = [[] for _ in requests]
    stopped = [False] * len(requests)
    alive = list(range(len(requests)))
    cache, tokens, mask, place = prefill(model, [r.prompt for r in requests], pad_id)
    cache = with_room(cache)
    for step in range(longest):
        logits = model(
            input_ids=tokens, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True
        ).logits[:, -1]
        chosen, logp = pick(logits.float(), noise[alive, step], temperature[alive])
        keep = []
        for slot, (row, token, value) in enumerate(zip(alive, chosen.tolist(), logp.tolist(), strict=True)):
            ids[row].append(token)
            logps[row].append(value)
            stopped[row] = token in eos
            if not stopped[row] and len(ids[row]) < requests[row].max_new_tokens:
                keep.append(slot)
        if not keep:
            break
        place = place + 1
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
        tokens = chosen[:, None]
        if len(keep) < len(alive):
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            tokens, mask, place = tokens[index], mask[index], place[index]
            alive = [alive[slot] for slot in keep]
    return [Completion(tuple(i), tuple(p), s) for i, p, s in zip(ids, logps, stopped, strict=True)]


def pick(logits: Tensor, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Choose a token a row and report its log-probability under the *untempered* distribution.

    Args:
        logits: (B, V) float32. noise: (B,) uniforms, float64. temperature: (B,), 0 for greedy.

    Returns:
        ids (B,) and log-probabilities (B,), nats.
    """
    peak, greedy = logits.max(-1)
    weights = _blocks((logits - peak[:, None]).exp_())
    logp_total = weights.sum((1, 2)).log()
    chosen = greedy
    if bool((temperature > 0).any()):
        if bool((temperature != 1).any()):
            weights = weights.pow_(1 / temperature.clamp_min(1e-6)[:, None, None])
        drawn = _invert(weights, noise).clamp_max(logits.shape[-1] - 1)
        chosen = torch.where(temperature > 0, drawn, greedy)
    return chosen, logits.gather(-1, chosen[:, None])[:, 0] - peak - logp_total


BLOCK = 128


def _blocks(weights: Tensor) -> Tensor:
    """(B, V) as (B, ceil(V / BLOCK), BLOCK), zeros at the end."""
    short = -weights.shape[-1] % BLOCK
    padded = torch.nn.functional.pad(weights, (0, short)) if short else weights
    return padded.view(len(weights), -1, BLOCK)


def _invert(weights: Tensor, noise: Tensor) -> Tensor:
    """Index where the cumulative weight passes the share ``noise`` of the total: first the block, then inside it."""
    rows = torch.arange(len(weights), device=weights.device)
    edges = weights.sum(-1).double().cumsum(-1)
    target = noise[:, None] * edges[:, -1:]
    block = torch.searchsorted(edges, target, right=True).clamp_max(edges.shape[1] - 1)[:, 0]
    inside = weights[rows, block].double().cumsum(-1)
    before = edges[rows, block] - inside[:, -1]
    place = torch.searchsorted(inside, target - before[:, None], right=True)[:, 0]
    last = (weights[rows, block] > 0).int().mul(torch.arange(1, BLOCK + 1, device=weights.device)).argmax(-1)
    return block * BLOCK + torch.minimum(place, last)
