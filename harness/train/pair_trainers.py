"""Trainers of the offline methods: one forward a batch of pairs, then a pure loss of :class:`sail.losses.Sides`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError
from harness.train.losses import kto, reference_point
from sail.batches import unpack
from sail.dpo import PairScores, TokenisedDPOTrainer, completion_scores, pair_scores
from sail.losses import Sides

Loss = Callable[[Sides], Tensor]


class PairTrainer(TokenisedDPOTrainer):
    """TRL's DPOTrainer with another loss.

    Args:
        pair_loss: gives the loss of each pair, shape (B,); a step minimises their mean.
        chosen_only: leave the rejected responses out of the forward (``lp_2`` and ``len_2`` are then those of the
            chosen ones).
    """

    def __init__(self, *args: Any, pair_loss: Loss, chosen_only: bool = False, **kwargs: Any) -> None:
        self.pair_loss, self.chosen_only = pair_loss, chosen_only
        super().__init__(*args, **kwargs)

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        mode = "train" if self.model.training else "eval"
        if self.chosen_only:
            inputs = inputs | {k: inputs[k].chunk(2)[0] for k in ("input_ids", "attention_mask", "completion_mask")}
        sides, outputs = _chosen_scores(model, inputs) if self.chosen_only else pair_scores(model, inputs)
        loss = self.losses(sides, model, inputs)
        log = self._metrics[mode]
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        log["num_tokens"] = [self._total_train_tokens]
        margin = ((sides.lp_1 - sides.ref_1) - (sides.lp_2 - sides.ref_2)).detach()
        if not self.chosen_only:
            log["margin_nats"].append(margin.mean().item())
            log["rewards/accuracies"].append((margin > 0).float().mean().item())
        return (loss.mean(), outputs) if return_outputs else loss.mean()

    def losses(self, sides: Sides, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Loss of each pair of the batch, shape (B,).

        Args:
            sides: log-probabilities of the pairs.
            model: the policy, for losses that need a forward of their own.
            inputs: the collated batch.
        """
        return self.pair_loss(sides)


def _chosen_scores(model: Any, inputs: dict[str, Tensor]) -> PairScores:
    """Scores whose second response is the first: only one row a pair goes through the model."""
    lp, length, outputs = completion_scores(model, inputs)
    ref = inputs["ref_chosen_logps"]
    return PairScores(Sides(lp, lp, ref, ref, length, length), outputs)


class PairKTOTrainer(PairTrainer):
    """KTO on pairs: both rows of a pair count, one desirable, one undesirable (two rows are one pair).

    Args:
        beta: scale of the implicit reward.
        desirable: weight of chosen responses.
        undesirable: weight of rejected responses.

    Raises:
        UserError: a batch of one pair, in which no prompts can be mismatched.
    """

    def __init__(self, *args: Any, beta: float, desirable: float, undesirable: float, **kwargs: Any) -> None:
        self.settings = (beta, desirable, undesirable)
        super().__init__(*args, pair_loss=lambda sides: sides.lp_1, **kwargs)
        if self.args.per_device_train_batch_size < 2:
            raise UserError(
                "KTO needs train.batch_size of at least 2: its reference point mismatches prompts in a batch"
            )

    def losses(self, sides: Sides, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """KTO's loss with the reference point of this batch, shape (B,).

        Args:
            sides: log-probabilities of the pairs.
            model: the policy, for the forward that the reference point needs.
            inputs: the collated batch.
        """
        beta, desirable, undesirable = self.settings
        return kto(sides, beta, self.reference_point(model, inputs), desirable, undesirable)

    def reference_point(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """z0 of a batch: each row's completion under the next row's prompt.

        It takes one forward of the policy and one of the reference, both without gradient.
        """
        pairs = unpack(inputs | {"example_id": torch.zeros(len(inputs["input_ids"]) // 2)})
        prompts = [pair.prompt for pair in pairs] * 2
        answers = [pair.first for pair in pairs] + [pair.second for pair in pairs]
        answers = answers[-1:] + answers[:-1]
        half = len(pairs)
        mixed = [
            {"prompt_ids": list(p), "chosen_ids": list(a), "rejected_ids": list(b)}
            for p, a, b in zip(prompts[:half], answers[:half], answers[half:], strict=True)
        ]
        batch = self._prepare_inputs(self.data_collator(mixed))
        with torch.no_grad():
            mismatched = pair_scores(model, batch).sides
        reference = torch.cat(self.compute_ref_log_probs(self.ref_model or self.model, batch))
        return reference_point(torch.cat([mismatched.lp_1, mismatched.lp_2]), reference)
