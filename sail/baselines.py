"""Baselines of the score terms (spec 1.5): means that do not depend on what they are subtracted from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from sail.losses import PairLoss, Sides, labelled, leave_one_out, self_label
from sail.pairs import StepPair
from sail.ranks import all_ranks
from sail.routes import OFF, PP


def with_baselines(
    pairs: Sequence[StepPair], pair_loss: PairLoss, lagged: Mapping[int, float], samples: int, rank: int
) -> list[StepPair]:
    """The pairs with baselines of phi and of the log-ratio, by route and over all ranks.

    DP has no rollout before its loss, so that it takes the lagged mean.

    Args:
        pairs: this rank's pairs of the step; the reference log-probabilities of online ones are known.
        pair_loss: what phi is computed with.
        lagged: mean phi of each route in the last step that it occurred in.
        samples: responses sampled a prompt (K).
        rank: of this process.
    """
    sampled = [i for i, pair in enumerate(pairs) if pair.on_policy and pair.weight > 0]
    phi = phi_of(pair_loss, [pairs[i] for i in sampled]).tolist() if sampled else []
    by_rank = all_ranks([(pairs[i], value) for i, value in zip(sampled, phi, strict=True)])
    offset = sum(len(part) for part in by_rank[:rank])
    everyone = [entry for part in by_rank for entry in part]
    of_phi = route_baselines([value for _, value in everyone], [pair.route for pair, _ in everyone], lagged)
    of_kl = kl_baselines([(pair.example, pair.samples, pair.log_ratios) for pair, _ in everyone])
    out = [replace(p, baseline=lagged.get(p.route, 0.0)) if p.route != OFF else p for p in pairs]
    for place, i in enumerate(sampled):
        b = of_phi[offset + place]
        out[i] = replace(out[i], baseline=b, response_baselines=(b, b), kl_baselines=of_kl[offset + place])
    if samples > 2:
        count = samples * (samples - 1) // 2
        for first in range(0, len(sampled), count):
            inside = within_prompt(phi[first : first + count], samples)
            for i, both in zip(sampled[first : first + count], inside, strict=True):
                out[i] = replace(out[i], response_baselines=both)
    return out


def phi_of(pair_loss: PairLoss, pairs: Sequence[StepPair]) -> Tensor:
    """phi of pairs whose log-probabilities are known, at the labels that they will be trained with. Shape (n,)."""
    lp = torch.tensor([p.logps for p in pairs], dtype=torch.float64)
    ref = torch.tensor([p.references for p in pairs], dtype=torch.float64)
    length = torch.tensor([[len(p.first), len(p.second)] for p in pairs], dtype=torch.float64)
    h = pair_loss.margin(Sides(lp[:, 0], lp[:, 1], ref[:, 0], ref[:, 1], length[:, 0], length[:, 1]))
    drawn = self_label(pair_loss, h, torch.tensor([p.label_draw for p in pairs], dtype=torch.float64))
    given = torch.tensor([p.label for p in pairs], dtype=torch.float64)
    self_labelled = torch.tensor([p.route == PP for p in pairs])
    return labelled(pair_loss.phi(h), pair_loss.phi(-h), torch.where(self_labelled, drawn, given))


def route_baselines(phi: Sequence[float], routes: Sequence[int], lagged: Mapping[int, float]) -> list[float]:
    """b of each pair: the mean phi of the other pairs on its route.

    Args:
        phi: of each on-policy pair of the step, over all ranks.
        routes: of the same pairs.
        lagged: mean phi of each route in an earlier step, for a pair that is alone on its route; 0 if there is none.
    """
    values = torch.tensor(phi, dtype=torch.float64)
    out = [0.0] * len(routes)
    for route in sorted(set(routes)):
        where = [i for i, r in enumerate(routes) if r == route]
        if len(where) == 1:
            out[where[0]] = lagged.get(route, 0.0)
            continue
        for index, value in zip(where, leave_one_out(values[where]).tolist(), strict=True):
            out[index] = value
    return out


def within_prompt(phi: Sequence[float], samples: int) -> list[tuple[float, float]]:
    """Baselines of both responses of each pair of one prompt's K > 2 samples: for a response, the mean phi of the
    pairs that do not contain it (spec 1.5). ``phi``: of all pairs of the K samples, in lexicographic order."""
    pairs = list(combinations(range(samples), 2))

    def without(k: int) -> float:
        others = [value for value, pair in zip(phi, pairs, strict=True) if k not in pair]
        return sum(others) / len(others)

    return [(without(i), without(j)) for i, j in pairs]


def kl_baselines(entries: Sequence[tuple[Hashable, tuple[int, int], tuple[float, float]]]) -> list[tuple[float, float]]:
    """Baseline of the reverse-KL penalty for both responses of each pair: mean log-ratio of all other responses.

    A response counts once, in however many pairs it stands.

    Args:
        entries: of each on-policy pair of the step, over all ranks: its prompt, which of the prompt's samples its two
            responses are, and their log-ratios ``log pi / ref`` (nats).
    """
    ratios = {(prompt, k): r for prompt, samples, both in entries for k, r in zip(samples, both, strict=True)}
    total, others = sum(ratios.values()), max(1, len(ratios) - 1)

    def without(prompt: Hashable, k: int) -> float:
        return (total - ratios[prompt, k]) / others

    return [(without(prompt, i), without(prompt, j)) for prompt, (i, j), _ in entries]
