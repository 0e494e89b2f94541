r"""Pair losses and the SAIL surrogate, as pure functions on log-probabilities (no trainer, no model).

Notation (spec 1.1): ``h = (lp_1 - ref_1) - (lp_2 - ref_2)`` for a pair of responses, with ``lp`` the sum of the
completion's token log-probabilities; ``u = beta * h``; the self-preference is ``p_theta(1 > 2) = sigmoid(u)``.
The one surrogate (spec 1.5), whose gradient is an unbiased estimate of the gradient of the objective in every setting:

.. math:: \text{loss}_i = \phi_i + c\,A_i\,\text{score}_i,\qquad A_i = \text{sg}(\phi_i) - b_i

with ``score = 1[online] (lp_1 + lp_2) + 1[self-labelled] log p_theta(label)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossKind = Literal["bt", "cdpo", "hinge", "ipo"]


@dataclass(frozen=True)
class PairLoss:
    """A pairwise loss ``phi`` (spec 1.6).

    ``beta`` scales the margin inside the link (for ``ipo`` it is tau, and the margin is the plain difference ``h``);
    ``smoothing`` is the label smoothing epsilon of cDPO (arXiv 2310.12036 for IPO, 2305.18290 for BT).
    """

    kind: LossKind = "bt"
    beta: float = 0.1
    smoothing: float = 0.0

    def phi(self, h: Tensor) -> Tensor:
        """Loss of preferring the first response, given the margin ``h`` of any shape (nats)."""
        u = self.beta * h
        if self.kind == "bt":
            return -F.logsigmoid(u)
        if self.kind == "cdpo":
            return -F.logsigmoid(u) + self.smoothing * u
        if self.kind == "hinge":
            return torch.relu(1 - u)
        if self.kind == "ipo":
            return (h - 1 / (2 * self.beta)) ** 2
        raise ValueError(f"unknown pair loss {self.kind!r}")

    def log_preference(self, h: Tensor) -> Tensor:
        """``log p_theta(1 > 2)``, the law that self-labels are drawn from (spec 1.6, last column)."""
        if self.kind == "ipo":
            return torch.log((0.5 + self.beta * h).clamp(1e-6, 1 - 1e-6))
        return F.logsigmoid(self.beta * h)


def margin(lp_1: Tensor, lp_2: Tensor, ref_1: Tensor, ref_2: Tensor) -> Tensor:
    """Implicit reward margin ``h`` without beta. All of shape (B,), nats."""
    return (lp_1 - ref_1) - (lp_2 - ref_2)


def labelled(first: Tensor, second: Tensor, p_first: Tensor) -> Tensor:
    """Expectation of a label-dependent quantity: ``p * first + (1 - p) * second``. Hard labels have p in {0, 1}."""
    return p_first * first + (1 - p_first) * second


def leave_one_out(values: Tensor) -> Tensor:
    """Mean of the *other* entries of a vector of at least two. Independent of the entry itself, so unbiased."""
    return (values.sum() - values) / (len(values) - 1)


@dataclass(frozen=True)
class SurrogateTerms:
    """What the surrogate is made of, each of shape (B,)."""

    loss: Tensor
    phi: Tensor
    advantage: Tensor
    score: Tensor


def surrogate(
    pair_loss: PairLoss,
    lp_1: Tensor,
    lp_2: Tensor,
    ref_1: Tensor,
    ref_2: Tensor,
    *,
    p_first: Tensor,
    online: Tensor,
    self_labelled: Tensor,
    coefficient: Tensor,
    baseline: Tensor,
) -> SurrogateTerms:
    """The SAIL surrogate of spec 1.5 for a batch of pairs; minimise the weighted sum of ``loss``.

    Args:
        lp_1, lp_2: log-probabilities of the two responses under the policy, with gradient. Shape (B,), nats.
        ref_1, ref_2: the same under the reference, without gradient.
        p_first: label, the probability that response 1 is preferred: 0 or 1 if hard. No gradient flows through it.
        online: 1 where the responses were drawn from the current policy (PP, PR).
        self_labelled: 1 where the label was drawn from ``p_theta`` (PP, DP).
        coefficient: added-gradient coefficient c of the pair's route; 0 gives plain (online) DPO.
        baseline: b, any value independent of the pair's own responses and label.
    """
    h = margin(lp_1, lp_2, ref_1, ref_2)
    p = p_first.detach()
    phi = labelled(pair_loss.phi(h), pair_loss.phi(-h), p)
    log_label = labelled(pair_loss.log_preference(h), pair_loss.log_preference(-h), p)
    score = online * (lp_1 + lp_2) + self_labelled * log_label
    advantage = phi.detach() - baseline
    return SurrogateTerms(phi + coefficient * advantage * score, phi, advantage, score)


def self_label(pair_loss: PairLoss, h: Tensor, draw: Tensor) -> Tensor:
    """Hard label drawn from the self-preference: 1 if ``draw < p_theta(1 > 2)``, else 0. Shape (B,), no gradient."""
    return (draw < pair_loss.log_preference(h.detach()).exp()).to(h.dtype)
