"""Texts that begin alike for several policies or completions: their beginnings are read first, then what follows.

What follows (the tails) goes through the model with others of about equal length, so that little of a pass is padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from math import inf
from typing import Any, NamedTuple

import torch

from harness.answer.lower_blocks import LowerBlocks, read_prompts
from harness.answer.scored_positions import logits_in_parts
from sail.prefill import Prefilled, backbone

Ids = tuple[int, ...]

MAX_SCORED_POSITIONS = 4096
"""Positions scored in one forward pass, unless one completion alone has more."""

TAIL_PASSES_ON_CPU = 4
"""Forward passes of completions, by length, that follow one of their prompts on a CPU."""

MAX_PROMPT_TOKENS_ON_CPU = 1024
"""Prompt tokens of one forward pass on a CPU, unless one prompt alone has more (longer batches gain nothing)."""


class Limits(NamedTuple):
    """Of a batch of stems: the most stems, the most positions scored, and the most tokens of prompts beyond what the
    family shares."""

    stems: int
    positions: int
    prompt_tokens: float

    @classmethod
    def of(cls, device: str, batch_size: int) -> Limits:
        """On a CPU several passes of ``batch_size`` completions follow one of their prompts."""
        if device == "cpu":
            passes = TAIL_PASSES_ON_CPU
            return cls(passes * batch_size, passes * MAX_SCORED_POSITIONS, MAX_PROMPT_TOKENS_ON_CPU)
        return cls(batch_size, MAX_SCORED_POSITIONS, inf)


def passes(read: Prefilled, tails: Sequence[Ids], batch_size: int) -> Iterator[tuple[Sequence[int], Prefilled]]:
    """Rows that go through the model together, of about equal length, and their prompts; all in order if they fit."""
    order = sorted(range(len(tails)), key=lambda i: len(tails[i]))
    while order:
        step = max(1, min(batch_size, MAX_SCORED_POSITIONS // (len(tails[order[-1]]) + 1)))
        if step >= len(tails):
            yield range(len(tails)), read
            return
        rows, order = order[-step:], order[:-step]  # the longest first
        yield rows, _rows_of(read, rows)


def _rows_of(read: Prefilled, rows: Sequence[int]) -> Prefilled:
    """Some of the prompts that a model has read."""
    index = torch.tensor(rows, device=read.tokens.device)
    cache = copy(read.cache)
    cache.layers = [copy(layer) for layer in cache.layers]
    cache.batch_select_indices(index)
    return Prefilled(cache, read.tokens[index], read.mask[index], read.places[index])


def read_tails(model: Any, read: Prefilled, tails: Sequence[Ids], pad_id: int) -> Any:
    """The backbone's output (rows, longest tail + 1, ...) for the prompts' last tokens and what follows them."""
    cache, last, mask, place = read
    width = max(len(tail) for tail in tails)
    padded = torch.tensor([[*tail, *[pad_id] * (width - len(tail))] for tail in tails], device=last.device)
    real = torch.tensor([[1] * len(tail) + [0] * (width - len(tail)) for tail in tails], device=mask.device)
    return backbone(model)(
        input_ids=torch.cat([last, padded.view(len(tails), width).to(last.dtype)], 1),
        attention_mask=torch.cat([mask, real.view(len(tails), width).to(mask.dtype)], 1),
        position_ids=place + torch.arange(width + 1, device=place.device),
        past_key_values=cache,
        use_cache=True,
    )


@torch.no_grad()
def score_next_tokens(
    model: Any,
    contexts: Sequence[tuple[Ids, Ids]],
    candidates: Sequence[int],
    *,
    pad_id: int,
    batch_size: int,
    lower: LowerBlocks | None,
) -> Iterator[tuple[Sequence[int], list[list[float]]]]:
    """Log-probabilities (nats) of candidates as the next token of contexts, by batches that begin alike for all
    policies.

    Args:
        model: a causal language model of transformers, in eval mode.
        contexts: token ids of each in two parts: what the contexts of other policies begin with too, and the rest.
        candidates: token ids.
        pad_id: id that fills batches up.
        batch_size: contexts of a forward pass.
        lower: blocks of the model that policies share, if any.

    Yields:
        places of contexts, and for each of them one number a candidate.
    """
    limits = Limits.of(model.device.type, batch_size)
    order = sorted(range(len(contexts)), key=lambda i: (len(contexts[i][0]), contexts[i][0]))
    while order:
        size = max(1, int(min(limits.stems, limits.prompt_tokens // len(contexts[order[0]][0]))))
        batch, order = order[:size], order[size:]
        read = read_prompts(lower, model, [contexts[i][0] for i in batch], pad_id)
        tails = [contexts[i][1] for i in batch]
        for rows, part in passes(read, tails, batch_size):
            own = [tails[row] for row in rows]
            output = read_tails(model, part, own, pad_id)
            hidden = output.last_hidden_state[torch.arange(len(own)), [len(tail) for tail in own]]
            logits = torch.cat([part.logits for part in logits_in_parts(model, output, hidden)])
            yield [batch[row] for row in rows], logits.log_softmax(-1)[:, list(candidates)].tolist()
