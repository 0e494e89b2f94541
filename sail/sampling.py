"""Batched sampling from a causal language model with keyed noise, keeping token ids and their log-probabilities.

One uniform per generated token picks the token by inverting the cumulative distribution, which is exact sampling at
temperature 1 without truncation. The uniform is keyed by the request, so a row does not depend on its batch.
Finished rows leave the batch, so that short answers cost little; a batch of long rows has fewer of them, so that
its key-value cache stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sail.noise import uniforms
from sail.prefill import Prefilled, prefill
from sail.rotary import constant_rotary_length
from sail.steady import steady
from sail.types import Completion, Request

CACHE_TOKENS = 1 << 16

Reader = Callable[[Any, Sequence[tuple[int, ...]], int], Prefilled]
"""Takes prompts through a model, given with the id of the padding: see :func:`sail.prefill.prefill`."""


class Sampler(Protocol):
    """What may take the place of :func:`sample` where a model in training samples: another engine, say, that is given
    the model's weights of now."""

    def __call__(
        self, model: Any, requests: Sequence[Request], *, eos_ids: Sequence[int], pad_id: int, batch_size: int = 64
    ) -> list[Completion]:
        """One completion for each request, in request order, with the untempered log-probabilities of its tokens."""


def configured_end_ids(configured: int | Sequence[int] | None, tokenizer: Any) -> list[int]:
    """Token ids that end an answer; empty if there are none.

    Args:
        configured: ``eos_token_id`` of the model's generation configuration: one id or several.
        tokenizer: its end-of-sequence id counts if the configuration names none.
    """
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        return []
    return [int(configured)] if isinstance(configured, int) else list(configured)


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Token ids that end an answer of a model: those of its ``generation_config``, else the tokenizer's.

    Raises:
        ValueError: there are none.
    """
    ids = configured_end_ids(model.generation_config.eos_token_id, tokenizer)
    if not ids:
        raise ValueError(
            "the model has no end-of-sequence id, so no response could end: set tokenizer.eos_token, or "
            "eos_token_id in the model's generation_config"
        )
    return ids


def sample(
    model: Any,
    requests: Sequence[Request],
    *,
    eos_ids: Sequence[int],
    pad_id: int,
    batch_size: int = 64,
    on_rows: Callable[[list[int], list[Completion]], None] | None = None,
    read: Reader = prefill,
) -> list[Completion]:
    """Sample one completion for each request, in request order.

    Args:
        model: a transformers causal language model (also wrapped by PEFT); it is used in eval mode and put back.
        requests: prompts with their limits, temperatures and noise keys.
        eos_ids: ids that end an answer; the one generated is kept as the last id.
        pad_id: token id of the padding.
        batch_size: most rows at once; fewer where prompts and answers together could pass ``CACHE_TOKENS`` tokens.
        on_rows: called after each batch with the indices and completions that are finished (for caching, progress).
        read: takes the prompts of a batch through the model, as :func:`~sail.prefill.prefill` does.

    Raises:
        ValueError: ``eos_ids`` is empty, or a prompt with its longest answer passes the length at which the model's
            rotary factors change.
    """
    if not eos_ids:
        raise ValueError("sampling needs at least one end-of-sequence id: the model has none")
    _check_rotary(model, requests)
    was_training = model.training
    model.eval()
    done: list[Completion | None] = [None] * len(requests)
    order = sorted(
        range(len(requests)), key=lambda i: (requests[i].max_new_tokens, len(requests[i].prompt), requests[i].prompt)
    )
    try:
        for rows in batches(order, requests, batch_size):
            with _still(model):
                batch = _sample_batch(model, [requests[i] for i in rows], set(eos_ids), pad_id, read)
            for index, completion in zip(rows, batch, strict=True):
                done[index] = completion
            if on_rows is not None:
                on_rows(rows, batch)
    finally:
        model.train(was_training)
    return [c for c in done if c is not None]


@contextmanager
def _still(model: Any) -> Iterator[None]:
    """What a model samples in: without gradients, with weights that stay as they are (:func:`sail.steady.steady`).

    On a CPU this is torch's inference mode, which keeps no account for gradients. Tensors that are made in it can take
    no part in a gradient later. A model that other processes share, whose weights its forwards gather, samples without
    both; on a GPU inference mode is untried.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        with torch.no_grad():
            yield
        return
    on_cpu = next(model.parameters()).device.type == "cpu"
    with torch.inference_mode() if on_cpu else torch.no_grad(), steady(model):
        yield


def _check_rotary(model: Any, requests: Sequence[Request]) -> None:
    limit = constant_rotary_length(model.config)
    longest = max((len(r.prompt) + r.max_new_tokens for r in requests), default=0)
    if limit is not None and longest > limit:
        raise ValueError(
            f"a prompt with its longest answer has {longest} tokens, but the rotary factors of the model change after "
            f"{limit}: lower max_new_tokens, or leave such prompts out"
        )


def batches(order: Sequence[int], requests: Sequence[Request], size: int) -> Iterator[list[int]]:
    """Consecutive rows of ``order``, at most ``size``, never mixing different ``max_new_tokens``.

    Rows times the longest prompt with its answer stay within ``CACHE_TOKENS``, but for a single row that is longer.

    Args:
        order: indices into ``requests``, those of equal ``max_new_tokens`` side by side.
        requests: in any order.
        size: most rows of a batch.
    """
    for limit, group in groupby(order, key=lambda i: requests[i].max_new_tokens):
        rows: list[int] = []
        width = 0
        for index in group:
            grown = max(width, len(requests[index].prompt) + limit)
            if rows and (len(rows) == size or (len(rows) + 1) * grown > CACHE_TOKENS):
                yield rows
                rows, grown = [], len(requests[index].prompt) + limit
            rows.append(index)
            width = grown
        yield rows


def _sample_batch(model: Any, requests: list[Request], eos: set[int], pad_id: int, read: Reader) -> list[Completion]:
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
    cache, tokens, mask, places = read(model, [r.prompt for r in requests], pad_id)
    cache = with_room(cache)
    for step in range(longest):
        logits = model(
            input_ids=tokens, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
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
        places = places + 1
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
        tokens = chosen[:, None]
        if len(keep) < len(alive):
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            tokens, mask, places = tokens[index], mask[index], places[index]
            alive = [alive[slot] for slot in keep]
    return [Completion(tuple(i), tuple(p), s) for i, p, s in zip(ids, logps, stopped, strict=True)]


class Picked(NamedTuple):
    """Token ids (B,) with their log-probabilities (B,), nats, under the untempered distribution."""

    ids: Tensor
    logps: Tensor


def pick(logits: Tensor, noise: Tensor, temperature: Tensor) -> Picked:
    """A token for each row.

    Args:
        logits: (B, V), float32.
        noise: (B,) uniforms in [0, 1), float64.
        temperature: (B,); 0 for greedy.
    """
    peak, greedy = logits.max(-1)
    weights = _blocks((logits - peak[:, None]).exp_())
    logp_total = weights.sum((1, 2)).log()
    chosen = greedy
    if bool((temperature > 0).any()):
        if bool((temperature != 1).any()):
            weights = weights.pow_(1 / temperature.clamp_min(1e-6)[:, None, None])
        drawn = _invert(weights, noise)
        chosen = torch.where(temperature > 0, drawn, greedy)
    return Picked(chosen, logits.gather(-1, chosen[:, None])[:, 0] - peak - logp_total)


BLOCK = 128


def _blocks(weights: Tensor) -> Tensor:
    """(B, V) as (B, ceil(V / BLOCK), BLOCK), zeros at the end."""
    short = -weights.shape[-1] % BLOCK
    padded = torch.nn.functional.pad(weights, (0, short)) if short else weights
    return padded.view(len(weights), -1, BLOCK)


def _invert(weights: Tensor, noise: Tensor) -> Tensor:
    """Index of the token in whose part of the cumulative weight the share ``noise`` of the total falls; its weight is
    never 0.

    Args:
        weights: (B, blocks, BLOCK), not negative, some above 0 in each row.
        noise: (B,) uniforms in [0, 1), float64.
    """
    rows = torch.arange(len(weights), device=weights.device)
    edges = weights.sum(-1).double().cumsum(-1)
    total = edges[:, -1:]
    target = torch.minimum(noise[:, None] * total, total.nextafter(torch.zeros_like(total)))  # the product may round up
    block = torch.searchsorted(edges, target, right=True).clamp_max(edges.shape[1] - 1)[:, 0]
    own = weights[rows, block]
    before = torch.where(block > 0, edges[rows, block - 1], 0)
    place = torch.searchsorted(own.double().cumsum(-1), target - before[:, None], right=True)[:, 0]
    last = (own > 0).int().mul(torch.arange(1, BLOCK + 1, device=weights.device)).argmax(-1)
    return block * BLOCK + torch.minimum(place, last)
