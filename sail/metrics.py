"""What is logged of a step, as pure functions of its log-probabilities. All values are plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sail.losses import PairLoss, Sides
from sail.routes import ROUTE_NAMES
from sail.types import Completion


def pair_metrics(pair_loss: PairLoss, sides: Sides, label: Tensor) -> dict[str, float]:
    """Margins, accuracy, the distribution of ``|u|`` and the entropy of self-labels (nats) of a batch of pairs.

    Args:
        pair_loss: of the trainer.
        sides: log-probabilities of the pairs.
        label: (B,), probability that response 1 is preferred, as trained.
    """
    with torch.no_grad():
        h = pair_loss.margin(sides)
        u, log_p, log_q = pair_loss.beta * h, pair_loss.log_preference(h), pair_loss.log_preference(-h)
        signed, size = torch.where(label >= 0.5, u, -u), u.abs()
        entropy = -(log_p.exp() * log_p + log_q.exp() * log_q)
    return {
        "rewards/margins": signed.mean().item(),
        "rewards/accuracies": (signed > 0).float().mean().item(),
        "abs_u": size.mean().item(),
        "abs_u/median": size.median().item(),
        "abs_u/max": size.max().item(),
        "self_label_entropy": entropy.mean().item(),
    }


def score_metrics(sides: Sides, phi: Tensor, columns: dict[str, Tensor]) -> dict[str, float]:
    """KL estimate (nats a response) and spread of the score term with and without its baseline, on on-policy pairs.

    There is no KL estimate without the reference's log-probabilities.

    Args:
        sides: log-probabilities of the pairs.
        phi: (B,), their loss.
        columns: ``online`` and ``baseline``, of shape (B,); ``ref_chosen_logps`` where the reference is known.

    Returns:
        nothing if there are fewer than two on-policy pairs.
    """
    here = columns["online"] > 0
    if int(here.sum()) < 2:
        return {}
    phi, lp = phi.detach()[here], (sides.lp_1 + sides.lp_2).detach()[here]
    ratio = lp - (sides.ref_1 + sides.ref_2)[here]
    kl = {"kl": (ratio / 2).mean().item()} if "ref_chosen_logps" in columns else {}
    return kl | {
        "score/std": ((phi - columns["baseline"][here]) * lp).std().item(),
        "score/std_no_baseline": (phi * lp).std().item(),
    }


def route_shares(routes: Tensor) -> dict[str, float]:
    """The share of each route among the pairs of a batch; ``routes`` (B,)."""
    return {f"share/{name}": (routes == route).float().mean().item() for route, name in ROUTE_NAMES.items()}


def answer_metrics(answers: Sequence[Completion]) -> dict[str, float]:
    """Mean length (tokens) of sampled responses and the share that hit the limit."""
    return {
        "generated/length": sum(len(a.ids) for a in answers) / len(answers),
        "generated/truncated": sum(not a.stopped for a in answers) / len(answers),
    }
