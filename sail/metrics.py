"""What is logged of a step, as pure functions of its log-probabilities. All values are plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sail.losses import PairLoss, Rewards, Sides
from sail.routes import ROUTE_NAMES
from sail.types import Completion


def reward_metrics(rewards: Rewards, sides: Sides, label: Tensor) -> dict[str, float]:
    """``rewards/*`` and ``logps/*`` of a batch of pairs, with the names and the meaning of TRL's DPOTrainer.

    Args:
        rewards: implicit rewards of both responses.
        sides: log-probabilities of the pairs.
        label: (B,), probability that response 1 is preferred, as trained. The preferred response counts as chosen, the
            first one where it is 0.5.
    """
    with torch.no_grad():
        first = label >= 0.5
        chosen, rejected = torch.where(first, *rewards), torch.where(first, rewards.second, rewards.first)
        return {
            "rewards/chosen": chosen.mean().item(),
            "rewards/rejected": rejected.mean().item(),
            "rewards/accuracies": (chosen > rejected).float().mean().item(),
            "rewards/margins": (chosen - rejected).mean().item(),
            "logps/chosen": torch.where(first, sides.lp_1, sides.lp_2).mean().item(),
            "logps/rejected": torch.where(first, sides.lp_2, sides.lp_1).mean().item(),
        }


def token_metrics(outputs: Any, completion_mask: Tensor, chosen: Tensor) -> dict[str, float]:
    """``entropy``, ``logits/*`` and ``mean_token_accuracy`` of completions, as TRL's DPOTrainer logs them.

    Args:
        outputs: of TRL's fused LM head: values of each token of N rows.
        completion_mask: (N, L).
        chosen: (N,), whether a row is a chosen response; the accuracy is of those alone.
    """
    with torch.no_grad():
        mask = completion_mask[:, 1:].bool()
        values = {name: outputs[name][:, -mask.shape[1] :] for name in ("entropy", "mean_logits", "is_top1")}
        here, elsewhere = mask & chosen[:, None], mask & ~chosen[:, None]
        out = {
            "entropy": _mean(values["entropy"], mask),
            "logits/chosen": _mean(values["mean_logits"], here),
            "mean_token_accuracy": _mean(values["is_top1"].float(), here),
        }
        if not bool(chosen.all()):
            out["logits/rejected"] = _mean(values["mean_logits"], elsewhere)
        return out


def _mean(values: Tensor, mask: Tensor) -> float:
    """Mean over the tokens of a mask; 0 if it has none, as TRL."""
    return (values[mask].sum() / mask.sum().clamp(min=1)).item()


def label_metrics(pair_loss: PairLoss, sides: Sides) -> dict[str, float]:
    """The distribution of ``|u|`` and the entropy of self-labels (nats) of a batch of pairs.

    Args:
        pair_loss: of the trainer.
        sides: log-probabilities of the pairs.
    """
    with torch.no_grad():
        h = pair_loss.margin(sides)
        log_p, log_q = pair_loss.log_preference(h), pair_loss.log_preference(-h)
        size = (pair_loss.beta * h).abs()
        entropy = -(log_p.exp() * log_p + log_q.exp() * log_q)
    return {
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
