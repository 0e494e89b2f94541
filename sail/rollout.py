"""What one optimiser step trains on: rows of pairs, their routes, and the responses the policy sampled for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sail.losses import PairLoss, labelled, leave_one_out, margin, self_label
from sail.noise import categorical, uniform
from sail.types import Completion, Request

OFF, DP, PP, PR = 3, 0, 1, 2
NAMES = {OFF: "off", DP: "dp", PP: "pp", PR: "pr"}


@dataclass(frozen=True)
class Pair:
    """A prompt with two sampled responses, as handed to a ``preference`` function. All token ids."""

    example: int
    prompt: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]


Preference = Callable[[Sequence[Pair]], Sequence[float]]
"""Probability that the first response is preferred, for each pair: 1, 0, or 0.5 for a tie."""


@dataclass(frozen=True)
class Row:
    """One pair of the step. ``label`` is the probability that ``first`` is preferred; ``logps`` are sums in nats."""

    example: int
    prompt: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    route: int
    draw: float
    label: float = 1.0
    refs: tuple[float, float] | None = None
    logps: tuple[float, float] | None = None
    baseline: float = 0.0
    truncated: int = 0

    @property
    def online(self) -> bool:
        """Whether the responses come from the current policy."""
        return self.route in (PP, PR)


def unpack(batch: dict[str, Tensor]) -> list[tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """(example, prompt, chosen, rejected) of each pair in a collated batch whose rows are [chosen..., rejected...]."""
    ids, attention, completion = batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"].bool()
    count = len(ids) // 2
    rows = []
    for i in range(count):
        prompt = ids[i][attention[i] & ~completion[i]]
        rows.append(
            (
                int(batch["example_id"][i]),
                tuple(prompt.tolist()),
                tuple(ids[i][completion[i]].tolist()),
                tuple(ids[count + i][completion[count + i]].tolist()),
            )
        )
    return rows


def route_of(seed: int, example: int, step: int, shares: tuple[float, ...]) -> int:
    """Route of an example at a step: DP, PP or PR by their shares, else OFF (spec 1.4)."""
    return categorical(shares, uniform((seed, example, step, "route")))


def requests_for(row: Row, seed: int, step: int, max_new_tokens: int) -> list[Request]:
    """The two samples of an online row, at temperature 1 without truncation of the distribution (spec 1.5)."""
    return [Request(row.prompt, max_new_tokens, 1.0, (seed, row.example, step, "token", k)) for k in (0, 1)]


def answered(row: Row, answers: tuple[Completion, Completion]) -> Row:
    """The row with its responses replaced by what the policy sampled."""
    return replace(
        row,
        first=answers[0].ids,
        second=answers[1].ids,
        refs=None,
        logps=(answers[0].logp, answers[1].logp),
        truncated=sum(not a.stopped for a in answers),
    )


def row_phi(pair_loss: PairLoss, rows: Sequence[Row]) -> Tensor:
    """phi of rows whose log-probabilities are known, at the labels they will be trained with. Shape (n,)."""
    lp = torch.tensor([r.logps for r in rows], dtype=torch.float64)
    ref = torch.tensor([r.refs for r in rows], dtype=torch.float64)
    h = margin(lp[:, 0], lp[:, 1], ref[:, 0], ref[:, 1])
    drawn = self_label(pair_loss, h, torch.tensor([r.draw for r in rows], dtype=torch.float64))
    given = torch.tensor([r.label for r in rows], dtype=torch.float64)
    own = torch.tensor([r.route == PP for r in rows])
    return labelled(pair_loss.phi(h), pair_loss.phi(-h), torch.where(own, drawn, given))


def baselines(phi: Tensor, routes: Sequence[int], lagged: dict[int, float]) -> list[float]:
    """b of each online row: leave-one-out mean of its route in the step; lagged if it is alone; 0 at first."""
    out = [0.0] * len(routes)
    for route in set(routes):
        where = [i for i, r in enumerate(routes) if r == route]
        if len(where) == 1:
            out[where[0]] = lagged.get(route, 0.0)
            continue
        for index, value in zip(where, leave_one_out(phi[where]).tolist(), strict=True):
            out[index] = value
    return out


def extras(rows: Sequence[Row], coefs: tuple[float, ...], weight: float, device: torch.device) -> dict[str, Any]:
    """The columns that the surrogate needs beside the collated ids, each of shape (n,)."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    return {
        "route": torch.tensor([r.route for r in rows], device=device),
        "draw": column([r.draw for r in rows]),
        "label": column([r.label for r in rows]),
        "online": column([float(r.online) for r in rows]),
        "coefficient": column([coefs[r.route] if r.route != OFF else 0.0 for r in rows]),
        "baseline": column([r.baseline for r in rows]),
        "weight": column([weight] * len(rows)),
    }
