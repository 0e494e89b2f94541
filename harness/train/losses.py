"""Losses of the offline methods, as pure functions of the log-probabilities of a batch of pairs.

BT, cDPO, hinge, IPO and SimPO are in :mod:`sail.losses`; here are those that depend on more than the margin.
Each takes :class:`sail.losses.Sides` (response 1 is the chosen one; sums in nats, shape (B,)) and gives a loss (B,).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sail.losses import PairLoss, Sides, token_mean


def sft(sides: Sides) -> Tensor:
    """Negative log-likelihood of the chosen response, a mean over its tokens; 0 if it has none."""
    return -token_mean(sides.lp_1, sides.len_1)


def robust(sides: Sides, beta: float, flip: float) -> Tensor:
    """rDPO (arXiv 2403.00409, eq. 12): in expectation DPO's loss on the labels before they were flipped.

    Args:
        sides: log-probabilities; response 1 is the chosen one.
        beta: scale of the implicit reward.
        flip: share of labels that are flipped, below 1/2.
    """
    bt = PairLoss("bt", beta)
    h = bt.margin(sides)
    return ((1 - flip) * bt.phi(h) - flip * bt.phi(-h)) / (1 - 2 * flip)


def odds_ratio(sides: Sides, weight: float) -> Tensor:
    """ORPO (arXiv 2403.07691, eqs. 4-7): likelihood of the chosen response plus ``weight`` times the odds-ratio loss.

    Odds are of the geometric mean token probability; no reference. A response without tokens has no odds: its pair
    counts with the likelihood alone.

    Args:
        sides: log-probabilities; response 1 is the chosen one.
        weight: of the odds-ratio loss (lambda in the paper).
    """
    first, second = token_mean(sides.lp_1, sides.len_1), token_mean(sides.lp_2, sides.len_2)
    log_odds = (first - second) - (log1mexp(first) - log1mexp(second))
    both = (sides.len_1 > 0) & (sides.len_2 > 0)
    return -first - weight * both * F.logsigmoid(log_odds)


def log1mexp(x: Tensor) -> Tensor:
    """``log(1 - exp(x))`` for x <= 0 without cancellation (Maechler 2012).

    At 0 itself it takes its value at the smallest positive number below, without gradient: finite.
    """
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    small = x > -0.6931471805599453
    return torch.where(small, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(torch.where(small, -1.0, x))))


def kto(sides: Sides, beta: float, kl: Tensor, desirable: float = 1.0, undesirable: float = 1.0) -> Tensor:
    """KTO (arXiv 2402.01306, eq. 8): the chosen row as desirable, the rejected as undesirable; their mean.

    Args:
        sides: log-probabilities; response 1 is the chosen one.
        beta: scale of the implicit reward.
        kl: the reference point z0, a scalar without gradient (nats, at least 0).
        desirable: weight of chosen responses.
        undesirable: weight of rejected responses.
    """
    first = desirable * (1 - torch.sigmoid(beta * (sides.lp_1 - sides.ref_1 - kl)))
    second = undesirable * (1 - torch.sigmoid(beta * (kl - (sides.lp_2 - sides.ref_2))))
    return (first + second) / 2


def reference_point(policy: Tensor, reference: Tensor) -> Tensor:
    """KTO's z0: mean log-ratio (n,) of responses to prompts that are not theirs, at least 0, without gradient.

    A biased estimate of KL(policy || reference), as in the paper (sec. 4.1).
    """
    return (policy - reference).mean().clamp(min=0).detach()
