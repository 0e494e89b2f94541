r"""Pair losses and the SAIL surrogate, as pure functions on log-probabilities (no trainer, no model).

Notation: ``h = (lp_1 - ref_1) - (lp_2 - ref_2)`` for a pair of responses, with ``lp`` the sum of the
completion's token log-probabilities; ``u = beta * h``; the self-preference is ``p_theta(1 > 2) = sigmoid(u)``.
The one surrogate, whose gradient is an unbiased estimate of the gradient of the objective in every setting:

.. math:: \text{loss}_i = \phi_i + c\,A_i\,\text{score}_i,\qquad A_i = \text{sg}(\phi_i) - b_i

with ``score = 1[online] (lp_1 + lp_2) + 1[self-labelled] log p_theta(label)``. The score terms exist for their
gradient: they enter as ``term - sg(term)``, so that the value of the loss is that of :math:`\phi`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

LossKind = Literal["bt", "cdpo", "hinge", "ipo", "simpo"]
Estimator = Literal["score", "rao-blackwell", "official"]


@dataclass(frozen=True)
class Sides:
    """Log-probabilities of the two responses of each pair, all of shape (B,), sums in nats.

    ``lp_*`` carry gradient, ``ref_*`` do not; ``len_*`` are lengths in tokens (a generated EOS counts).
    """

    lp_1: Tensor
    lp_2: Tensor
    ref_1: Tensor
    ref_2: Tensor
    len_1: Tensor
    len_2: Tensor

    def where(self, mask: Tensor) -> Sides:
        """The pairs for which ``mask`` (B,) is true."""
        return Sides(*(getattr(self, side.name)[mask] for side in fields(self)))


def token_mean(lp: Tensor, length: Tensor) -> Tensor:
    """Mean log-probability of a completion's tokens; 0, its sum, for a completion without tokens (as TRL's IPO).

    Args:
        lp: summed log-probabilities, nats.
        length: tokens, of the same shape.
    """
    return lp / length.clamp(min=1)


class Rewards(NamedTuple):
    """Implicit rewards of the two responses of each pair, both of shape (B,)."""

    first: Tensor
    second: Tensor


def log_ratio_rewards(sides: Sides, beta: float) -> Rewards:
    """DPO's implicit rewards ``beta log(pi / ref)``, sums over a response's tokens.

    Args:
        sides: log-probabilities of the pairs.
        beta: scale of the reward.
    """
    return Rewards(beta * (sides.lp_1 - sides.ref_1), beta * (sides.lp_2 - sides.ref_2))


def token_mean_rewards(sides: Sides, beta: float) -> Rewards:
    """Rewards of the methods without a reference, ``beta`` times the mean log-probability (SimPO; ORPO in TRL).

    Args:
        sides: log-probabilities of the pairs.
        beta: scale of the reward.
    """
    return Rewards(beta * token_mean(sides.lp_1, sides.len_1), beta * token_mean(sides.lp_2, sides.len_2))


@dataclass(frozen=True)
class PairLoss:
    """A pairwise loss ``phi`` with its implicit margin and its self-preference.

    ``beta`` scales the margin inside the link (for ``ipo`` it is tau, and ``h`` is length-averaged as in TRL);
    ``smoothing`` is cDPO's label smoothing epsilon; ``margin_gap`` is SimPO's target margin gamma (arXiv 2405.14734).
    SimPO has no reference: as a reward it solves no KL-regularised lower level, so SAIL with it is a heuristic.

    Raises:
        ValueError: an unknown ``kind``, or a ``beta`` that is not positive: at 0 the loss would not depend on the pair,
            and IPO's target 1 / (2 beta) would be infinite.
    """

    kind: LossKind = "bt"
    beta: float = 0.1
    smoothing: float = 0.0
    margin_gap: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(LossKind):
            raise ValueError(f"pair_loss must be one of {', '.join(get_args(LossKind))}; got {self.kind!r}")
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta must be a positive number; got {self.beta}: choose 0.1, DPO's default, say")

    def margin(self, sides: Sides) -> Tensor:
        """Implicit reward margin ``h`` of response 1 over response 2, without beta. Shape (B,), nats (per token for
        ``simpo`` and ``ipo``)."""
        if self.kind == "simpo":
            return token_mean(sides.lp_1, sides.len_1) - token_mean(sides.lp_2, sides.len_2)
        first, second = sides.lp_1 - sides.ref_1, sides.lp_2 - sides.ref_2
        if self.kind == "ipo":
            return token_mean(first, sides.len_1) - token_mean(second, sides.len_2)
        return first - second

    def rewards(self, sides: Sides) -> Rewards:
        """The implicit rewards that are logged, as TRL logs them: beta times the log-ratio, a sum over tokens (for IPO
        too); for SimPO, beta times the mean log-probability."""
        return (token_mean_rewards if self.kind == "simpo" else log_ratio_rewards)(sides, self.beta)

    def phi(self, h: Tensor) -> Tensor:
        """Loss of preferring the first response, given the margin ``h`` of any shape."""
        u = self.beta * h
        if self.kind == "bt":
            return -F.logsigmoid(u)
        if self.kind == "cdpo":
            return -F.logsigmoid(u) + self.smoothing * u
        if self.kind == "hinge":
            return torch.relu(1 - u)
        if self.kind == "ipo":
            return (h - 1 / (2 * self.beta)) ** 2
        return -F.logsigmoid(u - self.margin_gap)

    def at_zero(self) -> float:
        """phi of a pair without margin: at the start policy that of every pair, whatever its label (but for SimPO,
        whose margin has no reference)."""
        return float(self.phi(torch.zeros((), dtype=torch.float64)))

    def log_preference(self, h: Tensor) -> Tensor:
        """``log p_theta(1 > 2)``, the law that self-labels are drawn from: IPO's clipped linear link, else sigmoid.

        For SimPO without the target margin: with it the two orders would not add up to one.
        """
        if self.kind == "ipo":
            return torch.log((0.5 + self.beta * h).clamp(1e-6, 1 - 1e-6))
        return F.logsigmoid(self.beta * h)


def gradient_only(term: Tensor) -> Tensor:
    """A term with its gradient and the value 0."""
    return term - term.detach()


def labelled(first: Tensor, second: Tensor, p_first: Tensor) -> Tensor:
    """Expectation of a label-dependent quantity: ``p * first + (1 - p) * second``.

    Args:
        first: the quantity if response 1 is preferred.
        second: the quantity if response 2 is.
        p_first: label, the probability that response 1 is preferred; 0 or 1 if it is hard.
    """
    return p_first * first + (1 - p_first) * second


def leave_one_out(values: Tensor) -> Tensor:
    """Mean of the *other* entries of a vector of at least two. Independent of the entry itself, so unbiased."""
    return (values.sum() - values) / (len(values) - 1)


def self_label(pair_loss: PairLoss, h: Tensor, draw: Tensor) -> Tensor:
    """Hard label drawn from the self-preference: 1 if ``draw < p_theta(1 > 2)``, else 0. Shape (B,), no gradient.

    Args:
        pair_loss: whose self-preference is the law of the label.
        h: margins (B,), see :meth:`PairLoss.margin`.
        draw: uniforms in [0, 1), shape (B,).
    """
    return (draw < pair_loss.log_preference(h.detach()).exp()).to(h.dtype)


@dataclass(frozen=True)
class Routes:
    """What the surrogate needs of each pair beside its log-probabilities, each of shape (B,).

    Attributes:
        p_first: label, the probability that response 1 is preferred: 0 or 1 if hard. No gradient flows through it.
        online: 1 where the responses were drawn from the current policy (PP, PR).
        self_labelled: 1 where the label is drawn from ``p_theta`` (PP, DP).
        coefficient: added-gradient coefficient c of the pair's route; 0 gives plain (online) DPO.
        baseline: b, any value independent of the pair's own responses and label.
        baseline_1, baseline_2: b of each response, any value independent of that response; ``baseline`` if not given
            (they differ with more than two samples a prompt).
    """

    p_first: Tensor
    online: Tensor
    self_labelled: Tensor
    coefficient: Tensor
    baseline: Tensor
    baseline_1: Tensor | None = None
    baseline_2: Tensor | None = None

    def response_term(self, phi: Tensor, sides: Sides) -> Tensor:
        """T1 in surrogate form: ``(sg(phi) - b_1) lp_1 + (sg(phi) - b_2) lp_2`` on responses of the current policy."""
        b_1 = self.baseline if self.baseline_1 is None else self.baseline_1
        b_2 = self.baseline if self.baseline_2 is None else self.baseline_2
        return self.online * ((phi.detach() - b_1) * sides.lp_1 + (phi.detach() - b_2) * sides.lp_2)


@dataclass(frozen=True)
class SurrogateTerms:
    """What the surrogate is made of, each of shape (B,).

    ``loss`` has the value of ``phi`` and the gradient of ``phi + c * (response + label)``.
    """

    loss: Tensor
    phi: Tensor
    response: Tensor
    label: Tensor


def _terms(routes: Routes, phi: Tensor, response: Tensor, label: Tensor) -> SurrogateTerms:
    loss = phi + routes.coefficient * gradient_only(response + label)
    return SurrogateTerms(loss, phi, response, label)


def surrogate(pair_loss: PairLoss, sides: Sides, routes: Routes) -> SurrogateTerms:
    """The SAIL surrogate (docs/sail.md) for a batch of pairs; minimise the weighted sum of ``loss``.

    Args:
        pair_loss: phi, its margin and its self-preference.
        sides: log-probabilities of both responses, under the policy with gradient.
        routes: label, flags, coefficient and baselines of each pair.
    """
    h = pair_loss.margin(sides)
    p = routes.p_first.detach()
    phi = labelled(pair_loss.phi(h), pair_loss.phi(-h), p)
    log_label = labelled(pair_loss.log_preference(h), pair_loss.log_preference(-h), p)
    label = routes.self_labelled * (phi.detach() - routes.baseline) * log_label
    return _terms(routes, phi, routes.response_term(phi, sides), label)


def rao_blackwell(pair_loss: PairLoss, sides: Sides, routes: Routes) -> SurrogateTerms:
    """The surrogate with self-labels summed out instead of drawn: same expectation, no label noise.

    For a self-labelled pair ``sum_z [sg(p_z) phi_z + c sg(phi_z) p_z]`` replaces ``phi + c A log p(z)``; a baseline on
    the label term would cancel, since the probabilities sum to one.

    Args:
        pair_loss: phi, its margin and its self-preference.
        sides: log-probabilities of both responses, under the policy with gradient.
        routes: label, flags, coefficient and baselines of each pair.
    """
    h = pair_loss.margin(sides)
    up, down = pair_loss.phi(h), pair_loss.phi(-h)
    p_self = pair_loss.log_preference(h).exp()
    frozen = torch.where(routes.self_labelled > 0, p_self, routes.p_first).detach()
    phi = labelled(up, down, frozen)
    label = routes.self_labelled * labelled(up.detach(), down.detach(), p_self)
    return _terms(routes, phi, routes.response_term(phi, sides), label)


def official(pair_loss: PairLoss, sides: Sides, routes: Routes, pairs_per_step: int) -> SurrogateTerms:
    """The released code's form, as a control: not the gradient of the objective.

    Its label term ``-(c / 2) ell^2`` is right. Its response term is added by hooks to the gradient of each sequence
    log-probability as ``-c ell / logp``: of the opposite sign, divided by the log-probability, and added after the mean
    over the step (hence the factor ``pairs_per_step``). A response of log-probability 0 gets none.

    Args:
        pair_loss: phi, its margin and its self-preference.
        sides: log-probabilities of both responses, under the policy with gradient.
        routes: label, flags, coefficient and baselines of each pair.
        pairs_per_step: pairs of an optimiser step, over all ranks.
    """
    h = pair_loss.margin(sides)
    p = routes.p_first.detach()
    phi = labelled(pair_loss.phi(h), pair_loss.phi(-h), p)
    hooked = sum(lp / lp.detach().masked_fill(lp.detach() == 0, -math.inf) for lp in (sides.lp_1, sides.lp_2))
    response = routes.online * phi.detach() * hooked * pairs_per_step
    return _terms(routes, phi, response, -0.5 * routes.self_labelled * phi**2)


def _score(values: tuple[Tensor, Tensor], baselines: tuple[Tensor, Tensor], sides: Sides) -> Tensor:
    """``sg(value - b) lp`` of both responses, summed; it counts for its gradient only."""
    (v_1, v_2), (b_1, b_2) = values, baselines
    return gradient_only((v_1.detach() - b_1) * sides.lp_1 + (v_2.detach() - b_2) * sides.lp_2)


def reverse_kl(sides: Sides, online: Tensor, baseline_1: Tensor, baseline_2: Tensor) -> Tensor:
    """Penalty whose gradient is that of ``E_{y ~ pi}[log pi(y) / ref(y)]``, per pair (mean of its two responses).

    The score-function form ``sg(log-ratio - b) log pi``, on responses of the current policy only; 0 elsewhere. The
    pathwise part has expectation 0 and is left out, so that the value is 0.

    Args:
        sides: log-probabilities of both responses.
        online: (B,), 1 where the responses were drawn from the current policy.
        baseline_1: (B,), any value independent of response 1, nats.
        baseline_2: (B,), any value independent of response 2, nats.

    Returns:
        shape (B,), of value 0.
    """
    ratios = (sides.lp_1 - sides.ref_1, sides.lp_2 - sides.ref_2)
    return online * _score(ratios, (baseline_1, baseline_2), sides) / 2


def margin_penalty(pair_loss: PairLoss, sides: Sides, online: Tensor, baseline_1: Tensor, baseline_2: Tensor) -> Tensor:
    """Penalty ``|u|`` of each pair, whose gradient is that of its expectation over the pairs.

    On responses of the current policy that takes the score term ``sg(|u| - b) log pi`` beside the pathwise part.

    Args:
        pair_loss: whose ``u = beta h`` it is.
        sides: log-probabilities of both responses.
        online: (B,), 1 where the responses were drawn from the current policy.
        baseline_1: (B,), any value independent of response 1.
        baseline_2: (B,), any value independent of response 2.

    Returns:
        shape (B,), of value ``|u|``.
    """
    size = (pair_loss.beta * pair_loss.margin(sides)).abs()
    return size + online * _score((size, size), (baseline_1, baseline_2), sides)
