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
from sail.losses import Rewards, Sides, log_ratio_rewards
from sail.metrics import reward_metrics, token_metrics
from sail.ranks import join_metrics

Loss = Callable[[Sides], Tensor]
Reward = Callable[[Sides], Rewards]


class PairTrainer(TokenisedDPOTrainer):
    """TRL's DPOTrainer with another loss. It logs what DPOTrainer logs.

    Args:
        pair_loss: gives the loss of each pair, shape (B,); a step minimises their mean.
        rewards: gives the implicit rewards of both responses, which are logged; with ``args.beta`` times the log-ratio
            to the reference if None.
        chosen_only: leave the rejected responses out of the forward (``lp_2`` and ``len_2`` are then those of the
            chosen ones). No rewards are logged.
    """

    def __init__(
        self, *args: Any, pair_loss: Loss, rewards: Reward | None = None, chosen_only: bool = False, **kwargs: Any
    ) -> None:
        self.pair_loss, self.rewards, self.chosen_only = pair_loss, rewards, chosen_only
        if chosen_only:
            kwargs["share_prompts"] = False  # its forwards have one row a pair
        super().__init__(*args, **kwargs)

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        if self.chosen_only:
            inputs = inputs | {k: inputs[k].chunk(2)[0] for k in ("input_ids", "attention_mask", "completion_mask")}
        scores = _chosen_scores if self.chosen_only else pair_scores
        sides, outputs = scores(model, inputs, self.aux_loss_enabled)
        loss = self.losses(sides, model, inputs).mean() + self._aux_loss(outputs)
        self._log_batch(inputs, self._pair_metrics(inputs, sides, outputs))
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As DPOTrainer's, with the metrics of all processes."""
        if self.accelerator.num_processes > 1:
            join_metrics(self._metrics["train" if self.model.training else "eval"])
        super().log(logs, start_time)

    def _pair_metrics(self, inputs: dict[str, Tensor], sides: Sides, outputs: Any) -> dict[str, float]:
        """What TRL's DPOTrainer logs of a batch, as far as the method has it."""
        rows = torch.arange(len(inputs["completion_mask"]), device=sides.lp_1.device)
        tokens = token_metrics(outputs, inputs["completion_mask"], rows < len(sides.lp_1))
        if self.chosen_only:
            return tokens | {"logps/chosen": sides.lp_1.mean().item()}
        rewards = self.rewards(sides) if self.rewards else log_ratio_rewards(sides, self.args.beta)
        return tokens | reward_metrics(rewards, sides, torch.ones_like(sides.lp_1))

    def losses(self, sides: Sides, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Loss of each pair of the batch, shape (B,).

        Args:
            sides: log-probabilities of the pairs.
            model: the policy, for losses that need a forward of their own.
            inputs: the collated batch.
        """
        return self.pair_loss(sides)


def _chosen_scores(model: Any, inputs: dict[str, Tensor], aux_loss: bool) -> PairScores:
    """Scores whose second response is the first: only one row a pair goes through the model."""
    lp, length, outputs = completion_scores(model, inputs, aux_loss)
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
        super().__init__(
            *args, pair_loss=lambda sides: sides.lp_1, rewards=lambda sides: log_ratio_rewards(sides, beta), **kwargs
        )
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
