"""Baselines of the score terms: means that do not depend on what they are subtracted from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from sail.losses import PairLoss, Sides, labelled, leave_one_out, self_label
from sail.pairs import StepPair
from sail.ranks import all_ranks
from sail.routes import DP, OFF, PP, PR


def with_baselines(
    pairs: Sequence[StepPair], pair_loss: PairLoss, lagged: Mapping[int, float], samples: int, rank: int
) -> list[StepPair]:
    """The pairs with baselines of phi, of the log-ratio and of ``|u|``, over all ranks; those of phi by route.

    DP has no rollout before its loss, so that it takes the lagged mean.

    Args:
        pairs: this rank's pairs of the step; the reference log-probabilities of online ones are known.
        pair_loss: what phi is computed with.
        lagged: mean phi of each route in the last step that it occurred in; phi of a margin of 0 until then.
        samples: responses sampled a prompt (K).
        rank: of this process.
    """
    lagged = dict.fromkeys((DP, PP, PR), pair_loss.at_zero()) | dict(lagged)
    out = [replace(p, baseline=lagged[p.route]) if p.route != OFF else p for p in pairs]
    sampled = [i for i, pair in enumerate(pairs) if pair.on_policy and pair.weight > 0]
    mine = [pairs[i] for i in sampled]
    phi, size = phi_of(pair_loss, mine).tolist(), (pair_loss.beta * margins_of(pair_loss, mine)).abs().tolist()
    by_rank = all_ranks(list(zip(mine, phi, size, strict=True)))
    here = slice(sum(len(part) for part in by_rank[:rank]), sum(len(part) for part in by_rank[: rank + 1]))
    everyone = [entry for part in by_rank for entry in part]
    of_phi = route_baselines([value for _, value, _ in everyone], [pair.route for pair, _, _ in everyone], lagged)[here]
    of_size = route_baselines([value for _, _, value in everyone], [0] * len(everyone), {0: 0.0})[here]
    of_kl = kl_baselines([(pair.example, pair.samples, pair.log_ratios) for pair, _, _ in everyone])[here]
    of_responses, of_u = [(b, b) for b in of_phi], [(b, b) for b in of_size]
    if samples > 2:
        of_responses, of_u = within_prompts(phi, samples), within_prompts(size, samples)
    for place, i in enumerate(sampled):
        out[i] = replace(
            out[i],
            baseline=of_phi[place],
            response_baselines=of_responses[place],
            kl_baselines=of_kl[place],
            u_baselines=of_u[place],
        )
    return out


def margins_of(pair_loss: PairLoss, pairs: Sequence[StepPair]) -> Tensor:
    """Implicit margins h of pairs whose log-probabilities are known. Shape (n,)."""
    lp = torch.tensor([p.logps for p in pairs], dtype=torch.float64).view(-1, 2)
    ref = torch.tensor([p.references for p in pairs], dtype=torch.float64).view(-1, 2)
    length = torch.tensor([[len(p.first), len(p.second)] for p in pairs], dtype=torch.float64).view(-1, 2)
    return pair_loss.margin(Sides(lp[:, 0], lp[:, 1], ref[:, 0], ref[:, 1], length[:, 0], length[:, 1]))


def phi_of(pair_loss: PairLoss, pairs: Sequence[StepPair]) -> Tensor:
    """phi of pairs whose log-probabilities are known, at the labels that they will be trained with. Shape (n,)."""
    h = margins_of(pair_loss, pairs)
    drawn = self_label(pair_loss, h, torch.tensor([p.label_draw for p in pairs], dtype=torch.float64))
    given = torch.tensor([p.label for p in pairs], dtype=torch.float64)
    self_labelled = torch.tensor([p.route == PP for p in pairs], dtype=torch.bool)
    return labelled(pair_loss.phi(h), pair_loss.phi(-h), torch.where(self_labelled, drawn, given))


def route_baselines(values: Sequence[float], routes: Sequence[int], alone: Mapping[int, float]) -> list[float]:
    """b of each pair: the mean value of the other pairs on its route.

    Args:
        values: of each on-policy pair of the step, over all ranks.
        routes: of the same pairs.
        alone: by route, b of a pair that has its route to itself.
    """
    every = torch.tensor(values, dtype=torch.float64)
    out = [0.0] * len(routes)
    for route in sorted(set(routes)):
        where = [i for i, r in enumerate(routes) if r == route]
        if len(where) == 1:
            out[where[0]] = alone[route]
            continue
        for index, value in zip(where, leave_one_out(every[where]).tolist(), strict=True):
            out[index] = value
    return out


def within_prompts(values: Sequence[float], samples: int) -> list[tuple[float, float]]:
    """:func:`within_prompt` of each prompt in turn; ``values``: of the pairs of all prompts, those of one together."""
    count = samples * (samples - 1) // 2
    starts = range(0, len(values), count)
    return [both for start in starts for both in within_prompt(values[start : start + count], samples)]


def within_prompt(values: Sequence[float], samples: int) -> list[tuple[float, float]]:
    """Baselines of both responses of each pair of one prompt's K > 2 samples: for a response, the mean value of the
    pairs that do not contain it. ``values``: of all pairs of the K samples, in lexicographic order."""
    pairs = list(combinations(range(samples), 2))

    def without(k: int) -> float:
        others = [value for value, pair in zip(values, pairs, strict=True) if k not in pair]
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
