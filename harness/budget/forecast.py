"""What a run will spend, before it runs: formulas for floating-point operations and tokens, corrected by what earlier
runs on this machine spent (``calibration.json`` in the store)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from harness.budget.budget import Budget
from harness.budget.flops import Shape, backward, forward, head, head_backward
from sail.prompt_rules import common_length, mask_fits, sharing_pays

SIMULATED, MOST_STEPS = 4096, 10**7

LETTERS_PER_TOKEN, TEMPLATE_TOKENS = 4, 24
TYPICAL_PROMPT, TYPICAL_RESPONSE = 150, 300
"""Tokens that stand for texts that are not here: about those of UltraFeedback."""

ANSWER_SHARE, TYPICAL_ANSWER = 0.65, 450
"""Tokens of an answer that is not here: this share of the most that it may have, and no more than a chat model's answer
typically has."""


def expected_answer(limit: int, share: float = ANSWER_SHARE) -> float:
    """Tokens that an answer is expected to have.

    Args:
        limit: most tokens of an answer.
        share: of the limit that answers here have.
    """
    return min(limit * share, TYPICAL_ANSWER)


@dataclass(frozen=True)
class Spending:
    """What one trained pair costs in expectation.

    Attributes:
        rows: sequences through the training forward.
        stored: pairs of the data set that are used.
        sampled: responses sampled in training.
        labelled: responses labelled in training.
        reference: sequences through a forward without gradient.
    """

    rows: float = 2
    stored: float = 1
    sampled: float = 0
    labelled: float = 0
    reference: float = 0


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a prompt and of a response, and of a training batch's rows with their padding.

    Attributes:
        prompt: of a pair.
        response: of a pair, each.
        padded: tokens of a row, two a pair.
        common: tokens that both rows of a pair begin with.
        packed: tokens of a row, padding included, where one row holds a pair and its prompt once
            (:mod:`sail.prompt_rules`); 0 where training does not share prompts.
    """

    prompt: float
    response: float
    padded: float
    common: float = 0.0
    packed: float = 0.0

    @classmethod
    def of(cls, pairs: Sequence[Mapping[str, Any]], batch: int, max_length: int) -> Lengths:
        """Lengths of stored pairs, from a sample of them, with those of packed rows.

        Args:
            pairs: with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.
            batch: pairs of a training batch, whose longest row sets the padding; batches are drawn at random.
            max_length: tokens at which training cuts a row.
        """
        drawn = random.Random(0)
        places = range(len(pairs)) if len(pairs) <= SIMULATED else drawn.sample(range(len(pairs)), SIMULATED)
        part = [pairs[place] for place in places]
        both = [[[*p["prompt_ids"], *p[s]][:max_length] for s in ("chosen_ids", "rejected_ids")] for p in part]
        rows = [[len(first), len(second)] for first, second in both]
        common = [common_length(first, second) for first, second in both]
        batches = [drawn.sample(range(len(rows)), min(batch, len(rows))) for _ in range(256)]
        padded = fmean(max(max(rows[i]) for i in some) for some in batches)
        packed = fmean(max(sum(rows[i]) - common[i] for i in some) for some in batches)
        prompt = fmean(len(p["prompt_ids"]) for p in part)
        return cls(prompt, fmean(map(sum, rows)) / 2 - prompt, padded, fmean(common), packed)

    def typical_packed(self) -> Lengths:
        """With packed rows of pairs that have nothing but their prompt in common, padded as the plain ones."""
        longer = (self.prompt + 2 * self.response) / (self.prompt + self.response)
        return replace(self, common=self.prompt, packed=self.padded * longer)

    def where_shared(self, shared: bool, batch: int) -> Lengths:
        """Without packed rows where training does not share prompts, or their mask would not fit.

        Args:
            shared: whether the model can share prompts.
            batch: pairs of a training batch.
        """
        return self if shared and mask_fits(batch, self.packed) else replace(self, packed=0.0)

    def pair(self, hidden: int) -> ComputedRows:
        """What goes through a model for the two rows of a pair.

        Args:
            hidden: width of the model.
        """
        tokens, padded = 2 * (self.prompt + self.response), max(1, round(self.padded))
        if self.packed and sharing_pays(self.padded, self.packed, hidden):
            return ComputedRows(1, max(1, round(self.packed)), tokens - self.common)
        return ComputedRows(2, padded, tokens)


class ComputedRows(NamedTuple):
    """Rows of a pair as they are computed.

    Attributes:
        rows: of a pair.
        length: tokens of a row, padding included.
        tokens: of both rows of a pair, without padding and with what they share once.
    """

    rows: int
    length: int
    tokens: float


def text_tokens(texts: Sequence[str], *, template: int = TEMPLATE_TOKENS) -> int:
    """Tokens of texts by their letters.

    Args:
        texts: each a conversation's turn.
        template: tokens that the chat template adds to each.
    """
    return round(sum(map(len, texts)) / LETTERS_PER_TOKEN) + template * len(texts)


class Corrections(NamedTuple):
    """What earlier runs on this machine say of the formulas.

    Attributes:
        rates: floating-point operations a second, by phase.
        ratios: spent to predicted by axis, for one method.
    """

    rates: Mapping[str, float] = {}
    ratios: Mapping[str, float] = {}


@dataclass(frozen=True)
class Forecast:
    """Predicted spending of a run.

    Attributes:
        step: of an optimiser step, by axis; an axis that cannot be predicted is absent.
        pair: of a stored pair at its first use, by axis.
        stored: stored pairs that a step uses.
        pairs: stored pairs that there are.
    """

    step: Mapping[str, float]
    pair: Mapping[str, float]
    stored: float
    pairs: int

    def total(self, steps: float, axis: str) -> float:
        """Spending of so many steps on an axis, with the stored pairs that they use for the first time."""
        bought = min(self.pairs, self.stored * steps)
        return steps * self.step.get(axis, 0.0) + bought * self.pair.get(axis, 0.0)

    def covers(self, budget: Budget) -> bool:
        """Whether every limited axis is predicted (not: operations without a shape, seconds without a rate)."""
        return all(axis in self.step for axis in budget.limits)

    def steps(self, budget: Budget) -> int:
        """Steps until the budget is spent: the first boundary that reaches a limit, or the end of the pass in which the
        matched axis stands still."""

        def enough(steps: int) -> bool:
            """Whether so many steps reach a limit."""
            return any(self.total(steps, axis) >= limit for axis, limit in budget.limits.items())

        low, high = 1, MOST_STEPS
        if not enough(high):
            return max(1, 2 * round(self.pairs / max(1e-9, self.step["pairs"])))
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle + 1, high)
        return low


def phases(shape: Shape, spending: Spending, lengths: Lengths, pairs: int) -> dict[str, float]:
    """Floating-point operations of a step by phase, the stored pairs left out.

    Args:
        shape: of the policy in training.
        spending: what a trained pair costs.
        lengths: of prompts and responses.
        pairs: pairs a step.
    """
    pair, both = lengths.pair(shape.hidden), spending.rows >= 2
    rows = spending.rows * pairs * (pair.rows / 2 if both else 1)
    length = pair.length if both else max(1, round(lengths.padded))
    scored = round(spending.rows * pairs * lengths.response)
    train = rows * (forward(shape, 1, length) + backward(shape, 1, length))
    train += head(shape, scored) + head_backward(shape, scored, fused=True)
    without_adapter = replace(shape, linears=tuple(replace(n, rank=0) for n in shape.linears))
    referred = spending.reference * pairs
    reference = referred * pair.rows / 2 * forward(without_adapter, 1, pair.length)
    reference += head(shape, round(referred * lengths.response))
    sampled = spending.sampled * pairs
    cached = lengths.prompt + lengths.response / 2
    prefill = sampled / 2 * forward(shape, 1, max(1, round(lengths.prompt) - 1))
    decode = sampled * lengths.response * (forward(shape, 1, 1, round(cached)) + head(shape, 1))
    return {"train": train, "reference": reference, "generate": prefill + decode}


def forecast(
    shape: Shape | None,
    spending: Spending,
    lengths: Lengths,
    pairs_per_step: int,
    stored: int,
    price: Mapping[str, float],
    corrections: Corrections,
) -> Forecast:
    """Predicted spending of a method.

    Args:
        shape: of the policy in training; None if it is not known, and operations are then left out.
        spending: what a trained pair costs.
        lengths: of prompts and responses.
        pairs_per_step: of an optimiser step.
        stored: number of stored pairs.
        price: of one stored pair, by quantity, as in the ledger.
        corrections: from earlier runs of this method on this machine; seconds are left out without rates.
    """
    n, row_tokens = pairs_per_step, lengths.prompt + lengths.response
    if spending.rows >= 2 and shape is not None:
        row_tokens = lengths.pair(shape.hidden).tokens / 2
    step: dict[str, float] = {
        "steps": 1,
        "pairs": n,
        "train_tokens": spending.rows * n * row_tokens,
        "generated_tokens": spending.sampled * n * lengths.response,
        "oracle_calls": spending.labelled * n,
    }
    if shape is not None:
        computed = phases(shape, spending, lengths, n)
        step["flops"] = sum(computed.values())
        rates = corrections.rates
        default = rates.get("train")
        if default:
            step["seconds"] = sum(v / rates.get(phase, default) for phase, v in computed.items())
    step = {axis: value * corrections.ratios.get(axis, 1.0) for axis, value in step.items()}
    flops = sum(v for q, v in price.items() if q.endswith("_flops"))
    pair = {
        "generated_tokens": price.get("generated", 0.0),
        "oracle_calls": price.get("calls", 0.0),
        "flops": flops,
        "seconds": price.get("seconds", 0.0),
    }
    return Forecast(step, pair, spending.stored * n, stored)


def first_lines(path: Path, count: int = SIMULATED) -> list[dict[str, Any]]:
    """The first rows of a JSON-lines file."""
    import json

    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in islice(handle, count)]
