"""Log-probabilities of many completions of many prompts, computing once what they share.

Three things are shared: a long prefix of many prompts (the few-shot examples of a subject), the prompt of several
completions (the options of a question), and a forward of completions that differ in their last token only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import inf
from typing import Any

import torch

from sail.prefill import backbone, common_prefix, prefill

Ids = tuple[int, ...]

Row = tuple[Sequence[int], Sequence[int]]

Scored = tuple[float, bool]

Stem = tuple[Ids, Ids]

WORTH = 256  # prompt tokens that a shared prefix must save

POSITIONS = 4096  # positions scored in one forward, unless one completion alone has more

ON_CPU = 1024  # prompt tokens of one forward on a CPU, unless one prompt alone has more (longer batches gain nothing)


@dataclass(frozen=True)
class Family:
    """Prompts that begin with the same ``shared`` tokens."""

    shared: int
    prompts: list[Ids]


def families(prompts: Sequence[Ids]) -> list[Family]:
    """Unique prompts in families; those whose prefix saves less than ``WORTH`` tokens are one family, sharing nothing.

    In lexicographic order, a family ends where two neighbours share less than half of the shorter one.
    """
    ordered = sorted(set(prompts))
    groups: list[list[Ids]] = []
    for prompt in ordered:
        near = groups and 2 * common_prefix([groups[-1][-1], prompt]) >= min(len(groups[-1][-1]), len(prompt))
        if near:
            groups[-1].append(prompt)
        else:
            groups.append([prompt])
    found, rest = [], []
    for group in groups:
        shared = common_prefix(group)
        if shared * (len(group) - 1) >= WORTH:
            found.append(Family(shared, sorted(group, key=len)))
        else:
            rest += group
    return [*found, Family(0, sorted(rest, key=len))] if rest else found


def _windowed(model: Any) -> bool:
    """Whether some layer sees a window only. It is counted in places of the cache, so that padding between a shared
    prefix and the rest of a shorter prompt would push tokens out of it."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)


def _batches(
    family: Family, stems: dict[Ids, list[Stem]], size: int, most: float = inf, alone: bool = False
) -> Iterator[list[Stem]]:
    """At most ``size`` stems, by length of their prompts, those of one prompt together if they fit; fewer where they
    have over ``POSITIONS`` tokens, or their prompts over ``most`` beyond what the family shares, or where each prompt
    stays ``alone``."""
    batch: list[Stem] = []
    width = tokens = 0
    for prompt in family.prompts:
        own, new = stems[prompt], len(prompt) - family.shared
        wider = max(width, *(len(tail) + 1 for _, tail in own))
        count = len(batch) + len(own)
        if batch and (alone or count > size or count * wider > POSITIONS or tokens + new > most):
            yield batch
            batch, tokens, wider = [], 0, max(len(tail) + 1 for _, tail in own)
        batch, width, tokens = [*batch, *own], wider, tokens + new
        step = max(1, min(size, POSITIONS // width))
        while len(batch) > step:
            yield batch[:step]
            batch = batch[step:]
    if batch:
        yield batch


@torch.no_grad()
def score(
    model: Any,
    rows: Sequence[Row],
    *,
    pad_id: int,
    batch_size: int = 16,
    on_rows: Callable[[list[int], list[Scored]], None] | None = None,
) -> list[Scored]:
    """Summed log-probability (nats) of each completion given its prompt, and whether greedy decoding would give it.

    Args:
        rows: (prompt ids, completion ids), neither empty.
        batch_size: sequences in one forward.
        on_rows: called after each batch with the indices and results that are finished (for caching, progress).
    """
    was_training = model.training
    model.eval()
    wanted: dict[Stem, list[int]] = {}
    for i, (prompt, completion) in enumerate(rows):
        if not prompt or not completion:
            raise ValueError("a prompt and a completion need at least one token each")
        wanted.setdefault((tuple(prompt), tuple(completion[:-1])), []).append(i)
    stems: dict[Ids, list[Stem]] = {}
    for stem in wanted:
        stems.setdefault(stem[0], []).append(stem)
    done: list[Scored | None] = [None] * len(rows)
    most, alone = ON_CPU if model.device.type == "cpu" else inf, _windowed(model)
    try:
        for family in families(list(stems)):
            prefix = _prefix(model, family)
            for batch in _batches(family, stems, batch_size, most, alone):
                found = _score_batch(model, batch, [[rows[i][1] for i in wanted[s]] for s in batch], prefix, pad_id)
                places = [i for stem in batch for i in wanted[stem]]
                for i, value in zip(places, found, strict=True):
                    done[i] = value
                if on_rows is not None:
                    on_rows(places, found)
    finally:
        model.train(was_training)
    return [value for value in done if value is not None]


def _prefix(model: Any, family: Family) -> tuple[Ids, Any] | None:
    """The shared tokens of a family and their key-value cache, of one row."""
    if not family.shared:
        return None
    from transformers import DynamicCache

    ids, cache = family.prompts[0][: family.shared], DynamicCache()
    backbone(model)(input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True)
    return ids, cache


def _score_batch(
    model: Any, stems: Sequence[Stem], completions: Sequence[Sequence[Sequence[int]]], prefix: Any, pad_id: int
) -> list[Scored]:
    """Results of the completions of each stem (all but their last token), in order."""
    known = None if prefix is None else (prefix[0], deepcopy(prefix[1]))
    cache, last, mask, place = prefill(model, [prompt for prompt, _ in stems], pad_id, known)
    width = max(len(tail) for _, tail in stems)
    tails = torch.tensor([[*tail, *[pad_id] * (width - len(tail))] for _, tail in stems], device=last.device)
    ids = torch.cat([last, tails.view(len(stems), width).to(last.dtype)], 1)
    real = torch.tensor([[1] * len(tail) + [0] * (width - len(tail)) for _, tail in stems], device=mask.device)
    logits = model(
        input_ids=ids,
        attention_mask=torch.cat([mask, real.view(len(stems), width).to(mask.dtype)], 1),
        position_ids=place + torch.arange(width + 1, device=place.device),
        past_key_values=cache,
        use_cache=True,
    ).logits
    found = []
    for row, ends in zip(logits, completions, strict=True):
        length = len(ends[0])
        seen = row[:length].float()
        targets = torch.tensor(ends, device=row.device)
        positions = torch.arange(length, device=row.device)
        logps = seen.log_softmax(-1)[positions, targets]  # rounds as lm-eval's does; logsumexp is 5e-5 off that
        greedy = (targets == seen.argmax(-1)).all(1)
        found += list(zip(logps.sum(1).tolist(), greedy.tolist(), strict=True))
    return found
