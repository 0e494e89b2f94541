"""What one optimiser step trains on: rows of pairs, their routes, and the responses the policy sampled for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from sail.losses import PairLoss, Sides, labelled, leave_one_out, self_label
from sail.noise import categorical, uniform
from sail.types import Completion, Request

OFF, DP, PP, PR = 3, 0, 1, 2
START, LAGGED, OTHER, CURRENT = 0, 1, 2, 3
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
    """One pair of the step. ``label`` is the probability that ``first`` is preferred; ``logps`` are sums in nats;
    ``samples`` says which of the K responses to the prompt the two are."""

    example: int
    prompt: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    route: int
    draw: float
    label: float = 1.0
    refs: tuple[float, float] | None = None
    logps: tuple[float, float] | None = None
    source: int = CURRENT
    baseline: float = 0.0
    baselines: tuple[float, float] = (0.0, 0.0)
    kl_baselines: tuple[float, float] = (0.0, 0.0)
    samples: tuple[int, int] = (0, 1)
    weight: float = 1.0

    @property
    def online(self) -> bool:
        """Whether the responses are sampled during training."""
        return self.route in (PP, PR)

    @property
    def on_policy(self) -> bool:
        """Whether they were sampled from the current policy: only then is there a score term."""
        return self.online and self.source == CURRENT


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


def route_of(seed: int, example: int, step: int, shares: tuple[float, ...], labelled: bool = True) -> int:
    """Route of an example at a step: DP, PP or PR by their shares, else OFF (spec 1.4).

    An example whose label may not be used never takes OFF: the other routes share its probability.
    """
    total = 1.0 if labelled else sum(shares)
    route = categorical(shares, total * uniform((seed, example, step, "route")))
    return route if labelled or route != OFF else max(range(len(shares)), key=lambda r: shares[r])


def source_of(seed: int, example: int, step: int, shares: tuple[float, ...]) -> int:
    """Which generator samples an online row: START, LAGGED or OTHER by their shares, else CURRENT."""
    return categorical(shares, uniform((seed, example, step, "source")))


def requests_for(
    row: Row, seed: int, step: int, count: int, max_new_tokens: int, temperature: float = 1.0
) -> list[Request]:
    """The samples of an online row, without truncation of the distribution (spec 1.5)."""
    key = (seed, row.example, step, "token")
    return [Request(row.prompt, max_new_tokens, temperature, (*key, k)) for k in range(count)]


def answered(row: Row, answers: Sequence[Completion], seed: int, step: int) -> list[Row]:
    """One row for each pair of the K samples: together they weigh what the row did, each with its own label noise."""
    pairs = list(combinations(range(len(answers)), 2))
    rows = []
    for i, j in pairs:
        draw = row.draw if len(pairs) == 1 else uniform((seed, row.example, step, "label", i, j))
        rows.append(
            replace(
                row,
                first=answers[i].ids,
                second=answers[j].ids,
                refs=None,
                logps=(answers[i].logp, answers[j].logp),
                samples=(i, j),
                draw=draw,
                weight=row.weight / len(pairs),
            )
        )
    return rows


def within_prompt(phi: Sequence[float], samples: int) -> list[tuple[float, float]]:
    """Baselines of the two responses of each pair of one prompt's K > 2 samples: for a response, the mean phi of the
    pairs that do not contain it (spec 1.5)."""
    pairs = list(combinations(range(samples), 2))

    def without(k: int) -> float:
        others = [value for value, pair in zip(phi, pairs, strict=True) if k not in pair]
        return sum(others) / len(others)

    return [(without(i), without(j)) for i, j in pairs]


def kl_baselines(entries: Sequence[tuple[Hashable, tuple[int, int], tuple[float, float]]]) -> list[tuple[float, float]]:
    """Baseline of the reverse-KL penalty for both responses of each pair: mean log-ratio of all other responses.

    Args:
        entries: of each on-policy pair of the step, over all ranks: its prompt's group, which of the group's samples
            its two responses are, and their log-ratios ``log pi / ref`` (nats). A response counts once, in however many
            pairs it stands.
    """
    ratios = {(group, k): r for group, pair, both in entries for k, r in zip(pair, both, strict=True)}
    total, others = sum(ratios.values()), max(1, len(ratios) - 1)

    def without(group: Hashable, k: int) -> float:
        return (total - ratios[group, k]) / others

    return [(without(group, i), without(group, j)) for group, (i, j), _ in entries]


def hard_label(p: float, draw: float, kind: str) -> float:
    """The label that a preference probability ``p`` becomes: ``hard`` (a tie is settled by the draw), ``sampled`` or
    ``soft``."""
    if kind == "soft":
        return p
    threshold = 0.5 if kind == "hard" and p == 0.5 else p
    return float(draw < threshold) if kind == "sampled" or p == 0.5 else float(p > 0.5)


def flipped(label: float, draw: float, rate: float) -> float:
    """The label, turned round where ``draw < rate`` (symmetric label noise)."""
    return 1 - label if draw < rate else label


def row_phi(pair_loss: PairLoss, rows: Sequence[Row]) -> Tensor:
    """phi of rows whose log-probabilities are known, at the labels they will be trained with. Shape (n,)."""
    lp = torch.tensor([r.logps for r in rows], dtype=torch.float64)
    ref = torch.tensor([r.refs for r in rows], dtype=torch.float64)
    length = torch.tensor([[len(r.first), len(r.second)] for r in rows], dtype=torch.float64)
    h = pair_loss.margin(Sides(lp[:, 0], lp[:, 1], ref[:, 0], ref[:, 1], length[:, 0], length[:, 1]))
    drawn = self_label(pair_loss, h, torch.tensor([r.draw for r in rows], dtype=torch.float64))
    given = torch.tensor([r.label for r in rows], dtype=torch.float64)
    own = torch.tensor([r.route == PP for r in rows])
    return labelled(pair_loss.phi(h), pair_loss.phi(-h), torch.where(own, drawn, given))


def baselines(values: Sequence[float], routes: Sequence[int], lagged: dict[int, float]) -> list[float]:
    """b of each row: leave-one-out mean of its route in the step (all ranks); lagged if it is alone; 0 at first."""
    phi = torch.tensor(values, dtype=torch.float64)
    out = [0.0] * len(routes)
    for route in sorted(set(routes)):
        where = [i for i, r in enumerate(routes) if r == route]
        if len(where) == 1:
            out[where[0]] = lagged.get(route, 0.0)
            continue
        for index, value in zip(where, leave_one_out(phi[where]).tolist(), strict=True):
            out[index] = value
    return out


def extras(rows: Sequence[Row], coefs: tuple[float, ...], device: torch.device) -> dict[str, Any]:
    """The columns that the surrogate needs beside the collated ids, each of shape (n,)."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    return {
        "route": torch.tensor([r.route for r in rows], device=device),
        "draw": column([r.draw for r in rows]),
        "label": column([r.label for r in rows]),
        "online": column([float(r.on_policy) for r in rows]),
        "coefficient": column([coefs[r.route] if r.route != OFF else 0.0 for r in rows]),
        "baseline": column([r.baseline for r in rows]),
        "baseline_1": column([r.baselines[0] for r in rows]),
        "baseline_2": column([r.baselines[1] for r in rows]),
        "kl_baseline_1": column([r.kl_baselines[0] for r in rows]),
        "kl_baseline_2": column([r.kl_baselines[1] for r in rows]),
        "weight": column([r.weight for r in rows]),
    }
