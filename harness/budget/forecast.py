"""What a run will spend, before it runs: formulas for floating-point operations and tokens, corrected by what earlier
runs on this machine spent (``calibration.json`` in the store)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.budget.flops import Shape, backward, forward, head, head_backward

if TYPE_CHECKING:
    from harness.budget.budget import Budget


SIMULATED, MOST_STEPS = 4096, 10**7


@dataclass(frozen=True)
class Spending:
    """What one trained pair costs in expectation.

    ``rows`` through the training forward; ``stored`` pairs of the data set; responses ``sampled`` and ``labelled`` in
    training; rows through a forward without gradient (``reference``).
    """

    rows: float = 2
    stored: float = 1
    sampled: float = 0
    labelled: float = 0
    reference: float = 0


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a prompt and of a response, and of a training batch's rows with their padding."""

    prompt: float
    response: float
    padded: float

    @classmethod
    def of(cls, pairs: Sequence[Mapping[str, Any]], batch: int, max_length: int) -> Lengths:
        """Of stored pairs, in batches of ``batch`` pairs drawn at random."""
        drawn = random.Random(0)
        part = pairs if len(pairs) <= SIMULATED else drawn.sample(list(pairs), SIMULATED)
        rows = [
            [min(max_length, len(p["prompt_ids"]) + len(p[s])) for s in ("chosen_ids", "rejected_ids")] for p in part
        ]
        longest = [max(row) for row in rows]
        widths = [max(drawn.sample(longest, min(batch, len(longest)))) for _ in range(256)]
        prompt = sum(len(p["prompt_ids"]) for p in part) / len(part)
        total = sum(map(sum, rows)) / len(rows) / 2
        return cls(prompt, total - prompt, sum(widths) / len(widths))


@dataclass(frozen=True)
class Forecast:
    """Spending of a run: ``step``, of an optimiser step by axis; ``pair``, of a stored pair at its first use; how many
    stored pairs a step uses, and how many there are."""

    step: Mapping[str, float]
    pair: Mapping[str, float]
    stored: float
    pairs: int

    def total(self, steps: float, axis: str) -> float:
        """Spending of so many steps on an axis."""
        bought = min(self.pairs, self.stored * steps)
        return steps * self.step.get(axis, 0.0) + bought * self.pair.get(axis, 0.0)

    def knows(self, budget: Budget) -> bool:
        """Whether every limited axis is predicted (not: operations without a shape, seconds without a rate)."""
        return all(axis in self.step for axis in (budget.axis, *budget.caps))

    def steps(self, budget: Budget) -> int:
        """Steps until the budget is spent: the first boundary that reaches a limit, or the end of the pass in which the
        matched axis stands still."""

        def enough(steps: int) -> bool:
            limits = {budget.axis: budget.limit} | budget.caps
            return any(self.total(steps, axis) >= limit for axis, limit in limits.items())

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
        pairs: pairs a step.
    """
    rows, padded = spending.rows * pairs, max(1, round(lengths.padded))
    scored = round(rows * lengths.response)
    train = rows * (forward(shape, 1, padded) + backward(shape, 1, padded))
    train += head(shape, scored) + head_backward(shape, scored, fused=True)
    plain = replace(shape, linears=tuple(replace(n, rank=0) for n in shape.linears))
    again = spending.reference * pairs
    reference = again * forward(plain, 1, padded) + head(shape, round(again * lengths.response))
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
    known: Mapping[str, Any],
) -> Forecast:
    """Predicted spending of a method.

    Args:
        stored: number of stored pairs. price: of one, by quantity, as in the ledger.
        known: what :class:`Calibration` has learned of this method (``rates`` in operations a second by phase,
            ``ratios`` by axis).
    """
    n = pairs_per_step
    step: dict[str, float] = {
        "steps": 1,
        "pairs": n,
        "train_tokens": spending.rows * n * (lengths.prompt + lengths.response),
        "generated_tokens": spending.sampled * n * lengths.response,
        "oracle_calls": spending.labelled * n,
    }
    if shape is not None:
        computed = phases(shape, spending, lengths, n)
        step["flops"] = sum(computed.values())
        rates = known.get("rates", {})
        default = rates.get("train")
        if default:
            step["seconds"] = sum(v / rates.get(phase, default) for phase, v in computed.items())
    ratios = known.get("ratios", {})
    step = {axis: value * ratios.get(axis, 1.0) for axis, value in step.items()}
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
