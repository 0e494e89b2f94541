"""Log-probabilities of many completions of many prompts; what they share is computed once.

Three things are shared: a long prefix of many prompts (the few-shot examples of a subject), the prompt of several
completions (the options of a question), and a forward of completions that differ in their last token only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.answer.lower_blocks import LowerBlocks, Part, part_of, read_prompts
from harness.answer.scored_positions import PromptAndAnswer, logits_in_parts
from harness.store.json_files import digest
from sail.prefill import Prefilled, backbone, common_prefix

Ids = tuple[int, ...]

Stem = tuple[Ids, Ids]
"""A prompt and a completion without its last token: one forward pass scores every last token."""

MIN_SAVED_TOKENS = 256
"""Prompt tokens that a shared prefix must save."""

MAX_DEPTH = 256
"""How often a group of prompts is parted at most."""

MAX_SCORED_POSITIONS = 4096
"""Positions scored in one forward pass, unless one completion alone has more."""

TAIL_PASSES_ON_CPU = 4
"""Forward passes of completions, by length, that follow one of their prompts on a CPU."""

MAX_PROMPT_TOKENS_ON_CPU = 1024
"""Prompt tokens of one forward pass on a CPU, unless one prompt alone has more (longer batches gain nothing)."""


class ScoredContinuation(NamedTuple):
    """Summed log-probability (nats) of a completion, and whether greedy decoding would give it."""

    logp: float
    is_greedy: bool


@dataclass(frozen=True)
class Family:
    """Prompts that begin with the same ``shared`` tokens."""

    shared: int
    prompts: list[Ids]


def prompt_families(prompts: Sequence[Ids]) -> list[Family]:
    """Unique prompts in families, so that many tokens are computed once.

    In lexicographic order, neighbours share the longest prefixes. A group is parted where its neighbours share least,
    and its parts in the same way, if they save more than the group as one family would. What is in no family of a part
    is a family of its own if that saves enough. Prompts whose prefix saves too little share nothing.
    """
    ordered = sorted(set(prompts))
    shared = [common_prefix([first, second]) for first, second in pairwise(ordered)]
    groups, rest = _parted(shared, range(len(ordered)), 0)
    families = [Family(g.shared, sorted((ordered[i] for i in g.members), key=len)) for g in groups]
    return [*families, Family(0, sorted((ordered[i] for i in rest), key=len))] if rest else families


class _Group(NamedTuple):
    """Prompts by their places in order, and the tokens that all of them share."""

    shared: int
    members: Sequence[int]

    @property
    def saved(self) -> int:
        """Tokens that need not be computed again; 0 if they are too few to be worth it."""
        saved = self.shared * (len(self.members) - 1)
        return saved if saved >= MIN_SAVED_TOKENS else 0


class _Parts(NamedTuple):
    """Families, and the prompts that are in none."""

    families: list[_Group]
    rest: list[int]


def _parted(shared: Sequence[int], places: range, depth: int) -> _Parts:
    """The families of a range of prompts.

    Args:
        shared: tokens that each prompt shares with the next one in order.
        places: of the prompts.
        depth: how often they were parted before.
    """
    if len(places) < 2:
        return _Parts([], [*places])
    inner = places[:-1]
    least = min(shared[i] for i in inner)
    whole = _Group(least, places)
    families: list[_Group] = []
    rest: list[int] = []
    if depth < MAX_DEPTH:
        edges = [places.start, *(i + 1 for i in inner if shared[i] == least), places.stop]
        for start, end in pairwise(edges):
            part = _parted(shared, range(start, end), depth + 1)
            families += part.families
            rest += part.rest
    else:
        rest = [*places]
    left = _Group(least, rest)
    if whole.saved and whole.saved >= left.saved + sum(family.saved for family in families):
        return _Parts([whole], [])
    return _Parts([*families, left], []) if left.saved else _Parts(families, rest)


class _Limits(NamedTuple):
    """Of a batch of stems: the most stems, the most positions scored, and the most tokens of prompts beyond what the
    family shares."""

    stems: int
    positions: int
    prompt_tokens: float

    @classmethod
    def of(cls, device: str, batch_size: int) -> _Limits:
        """On a CPU several passes of ``batch_size`` completions follow one of their prompts."""
        if device == "cpu":
            passes = TAIL_PASSES_ON_CPU
            return cls(passes * batch_size, passes * MAX_SCORED_POSITIONS, MAX_PROMPT_TOKENS_ON_CPU)
        return cls(batch_size, MAX_SCORED_POSITIONS, inf)


def _batches(family: Family, stems: dict[Ids, list[Stem]], limits: _Limits) -> Iterator[list[Stem]]:
    """Batches of stems, by length of their prompts, those of one prompt together if they fit."""
    batch: list[Stem] = []
    width = tokens = 0
    for prompt in family.prompts:
        own, new = stems[prompt], len(prompt) - family.shared
        wider = max(width, *(len(tail) + 1 for _, tail in own))
        count = len(batch) + len(own)
        is_full = count > limits.stems or count * wider > limits.positions or tokens + new > limits.prompt_tokens
        if batch and is_full:
            yield batch
            batch, tokens, wider = [], 0, max(len(tail) + 1 for _, tail in own)
        batch, width, tokens = [*batch, *own], wider, tokens + new
        step = max(1, min(limits.stems, limits.positions // width))
        while len(batch) > step:
            yield batch[:step]
            batch = batch[step:]
    if batch:
        yield batch


@torch.no_grad()
def score_continuations(
    model: Any,
    rows: Sequence[PromptAndAnswer],
    *,
    pad_id: int,
    batch_size: int = 16,
    on_rows: Callable[[list[int], list[ScoredContinuation]], None] | None = None,
    lower: LowerBlocks | None = None,
) -> list[ScoredContinuation]:
    """Summed log-probability (nats) of each completion given its prompt, and whether greedy decoding would give it.

    Args:
        model: a causal language model of transformers.
        rows: (prompt ids, completion ids), neither empty.
        pad_id: id that fills batches up.
        batch_size: sequences in one forward pass.
        on_rows: called after each batch with the indices and results that are finished (for caching, progress).
        lower: blocks of the model that other policies share, if any.

    Returns:
        One result a row, in order.

    Raises:
        ValueError: a prompt or a completion is empty.
    """
    was_training = model.training
    model.eval()
    rows_of_stem: dict[Stem, list[int]] = {}
    for i, (prompt, completion) in enumerate(rows):
        if not prompt or not completion:
            raise ValueError("a prompt and a completion need at least one token each")
        rows_of_stem.setdefault((tuple(prompt), tuple(completion[:-1])), []).append(i)
    stems: dict[Ids, list[Stem]] = {}
    for stem in rows_of_stem:
        stems.setdefault(stem[0], []).append(stem)
    done: list[ScoredContinuation | None] = [None] * len(rows)
    limits = _Limits.of(model.device.type, batch_size)
    try:
        for family in prompt_families(list(stems)):
            batches = _batches(family, stems, limits)
            for batch, prefix, part in _prepared(model, family, batches, pad_id, lower):
                completions = [[rows[i][1] for i in rows_of_stem[stem]] for stem in batch]
                with part.running():
                    own = lower if lower is not None and lower.prompts_only else None
                    read = read_prompts(own, model, [prompt for prompt, _ in batch], pad_id, prefix)
                    results = _score_tails(model, read, batch, completions, pad_id, batch_size)
                indices = [i for stem in batch for i in rows_of_stem[stem]]
                for i, value in zip(indices, results, strict=True):
                    done[i] = value
                if on_rows is not None:
                    on_rows(indices, results)
    finally:
        model.train(was_training)
    return [value for value in done if value is not None]


Prefix = tuple[Ids, Any] | None
"""Tokens that all prompts of a batch share, and their key-value cache (one row)."""


def _prepared(
    model: Any, family: Family, batches: Iterable[list[Stem]], pad_id: int, lower: LowerBlocks | None
) -> Iterator[tuple[list[Stem], Prefix, Part]]:
    """The batches of a family, each with its prefix and its part of the work with the lower blocks.

    A prefix whose lower blocks were passed by is computed again, whole, for the first batch that must compute them. No
    meter counts that, since it counted the prefix as whole.

    Args:
        model: a causal language model of transformers.
        family: whose prefix is computed once.
        batches: of its stems.
        pad_id: id that fills batches up.
        lower: blocks of the model that other policies share, if any.
    """
    shared = family.prompts[0][: family.shared]
    prefix_part = part_of(lower, "prefix", shared)
    with prefix_part.running():
        prefix = _prefix(model, shared, backbone(model))
    is_whole = not prefix_part.is_kept
    for batch in batches:
        part = part_of(lower, "batch", digest(shared), batch, pad_id)
        if not part.is_kept and not is_whole:
            prefix, is_whole = _prefix(model, shared, backbone(model).forward), True
        yield batch, prefix, part


def _prefix(model: Any, shared: Ids, forward: Callable[..., Any]) -> Prefix:
    """The shared tokens of a family with their key-value cache, by a forward of the model's backbone."""
    if not shared:
        return None
    from transformers import DynamicCache

    cache = DynamicCache()
    forward(input_ids=torch.tensor([shared], device=model.device), past_key_values=cache, use_cache=True)
    return shared, cache


def _score_tails(
    model: Any,
    read: Prefilled,
    stems: Sequence[Stem],
    completions: Sequence[Sequence[Sequence[int]]],
    pad_id: int,
    batch_size: int,
) -> list[ScoredContinuation]:
    """Results of the completions of each stem, in order. Stems of about equal length go through the model together.

    Args:
        model: a causal language model of transformers.
        read: the stems' prompts.
        stems: their tails are still to be read.
        completions: of each stem, all of one length.
        pad_id: id that fills batches up.
        batch_size: stems of a pass.
    """
    order = sorted(range(len(stems)), key=lambda i: len(stems[i][1]))
    results: list[list[ScoredContinuation]] = [[] for _ in stems]
    while order:
        step = max(1, min(batch_size, MAX_SCORED_POSITIONS // (len(stems[order[-1]][1]) + 1)))
        own, order = order[-step:], order[:-step]  # the longest first
        if len(own) == len(stems):
            own, part = list(range(len(stems))), read
        else:
            part = _rows_of(read, own)
        scores = _score_batch(model, part, [stems[i][1] for i in own], [completions[i] for i in own], pad_id)
        for i, values in zip(own, scores, strict=True):
            results[i] = values
    return [value for values in results for value in values]


def _rows_of(read: Prefilled, rows: Sequence[int]) -> Prefilled:
    """Some of the prompts that a model has read."""
    index = torch.tensor(rows, device=read.tokens.device)
    cache = copy(read.cache)
    cache.layers = [copy(layer) for layer in cache.layers]
    cache.batch_select_indices(index)
    return Prefilled(cache, read.tokens[index], read.mask[index], read.places[index])


def _score_batch(
    model: Any, read: Prefilled, tails: Sequence[Ids], completions: Sequence[Sequence[Sequence[int]]], pad_id: int
) -> list[list[ScoredContinuation]]:
    """Results of the completions of each stem, by one forward pass of the tails."""
    cache, last, mask, place = read
    width = max(len(tail) for tail in tails)
    padded = torch.tensor([[*tail, *[pad_id] * (width - len(tail))] for tail in tails], device=last.device)
    ids = torch.cat([last, padded.view(len(tails), width).to(last.dtype)], 1)
    real = torch.tensor([[1] * len(tail) + [0] * (width - len(tail)) for tail in tails], device=mask.device)
    output = backbone(model)(
        input_ids=ids,
        attention_mask=torch.cat([mask, real.view(len(tails), width).to(mask.dtype)], 1),
        position_ids=place + torch.arange(width + 1, device=place.device),
        past_key_values=cache,
        use_cache=True,
    )
    lengths = [len(tail) + 1 for tail in tails]
    hidden = torch.cat([output.last_hidden_state[row, :length] for row, length in enumerate(lengths)])
    sums = _Sums([torch.tensor(ends, device=hidden.device) for ends in completions])
    for start, logits in logits_in_parts(model, output, hidden):
        sums.add(start, logits)
        del logits  # before the next part is there
    results = iter(sums.results())
    return [[next(results) for _ in ends] for ends in completions]


class _Sums:
    """Sums over positions that come in parts, those of one stem after those of another.

    Args:
        targets: token ids of the completions of each stem, (completions, positions).
    """

    def __init__(self, targets: Sequence[Tensor]) -> None:
        self._targets = targets
        self._logps = [ids.new_zeros(len(ids), dtype=torch.float32) for ids in targets]
        self._greedy = [ids.new_ones(len(ids), dtype=torch.bool) for ids in targets]

    def add(self, start: int, logits: Tensor) -> None:
        """Add a part.

        Args:
            start: its first position, counted over all stems.
            logits: (positions, vocabulary).
        """
        logps = logits.log_softmax(-1)  # rounds as lm-eval's does; logsumexp is 5e-5 off that
        best, begin = logits.argmax(-1), 0
        for stem, ids in enumerate(self._targets):
            end = begin + ids.shape[1]
            low, high = max(start, begin), min(start + len(logits), end)
            if low < high:
                own, part = ids[:, low - begin : high - begin], slice(low - start, high - start)
                self._logps[stem] += logps[part].gather(-1, own.T).sum(0)
                self._greedy[stem] &= (own == best[part]).all(1)
            begin = end

    def results(self) -> list[ScoredContinuation]:
        """One for each completion, in order."""
        pairs = zip(torch.cat(self._logps).tolist(), torch.cat(self._greedy).tolist(), strict=True)
        return [ScoredContinuation(logp, is_greedy) for logp, is_greedy in pairs]
