"""TRL's DPOTrainer on token ids, and one forward that scores a batch of pairs: what all trainers here build on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOTrainer

from sail.callbacks import TokenCount
from sail.data import columns_of
from sail.head_tiles import use_head_tiles
from sail.losses import Sides
from sail.prefill import backbone
from sail.shared_prompts import PromptSharing


def score_completions_only() -> None:
    """Let TRL's fused LM head project completion tokens only on a CPU too.

    TRL 1.16 leaves the masked positions out on Triton devices and projects all of them elsewhere, for compilers that
    want constant shapes. On a CPU that is over half of a step. The values are the same; the kernel choice is untouched.
    """
    from trl.trainer import utils

    original = utils._use_triton
    if not getattr(original, "compacts_on_cpu", False):

        def compact(device: torch.device) -> bool:
            """Whether masked positions are left out on this device."""
            return device.type == "cpu" or bool(original(device))

        compact.compacts_on_cpu = True  # type: ignore[attr-defined]
        utils._use_triton = compact


class TokenisedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer that trains on exactly the token ids it is given.

    A dataset with columns ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` passes through untouched (the stock trainer
    would render and tokenise text again), and reference log-probabilities that are already there are not recomputed.
    The prompt of a pair goes through the model once, where that changes nothing but the time.

    Args:
        share_prompts: whether it may (:class:`sail.shared_prompts.PromptSharing`).
        Everything else is DPOTrainer's.
    """

    def __init__(self, *args: Any, share_prompts: bool = True, **kwargs: Any) -> None:
        self.share_prompts = share_prompts
        self._sharing: PromptSharing | None = None
        score_completions_only()
        use_head_tiles()
        super().__init__(*args, **kwargs)
        for model in (self.model, self.ref_model):
            if model is not None:
                backbone(model)  # corrects the name by which TRL looks for it
        if self.aux_loss_enabled and not hasattr(self.model.config.get_text_config(), "num_experts"):
            self.aux_loss_enabled: bool = False
            warnings.warn(
                f"TRL has no load-balancing loss for {type(self.model).__name__}, which is trained without it: set "
                "router_aux_loss_coef=0 to leave this warning out",
                stacklevel=2,
            )
        self.add_callback(TokenCount(self))
        self._sharing = None  # a reference that served its precomputation alone is not kept
        self._prompts_shared()  # decided before the weights may be sharded

    def _prompts_shared(self) -> AbstractContextManager[None]:
        """Inside, forwards of pairs compute the prompt once, in policy and reference."""
        args = self.args
        if not self.share_prompts or args.torch_compile or args.neftune_noise_alpha:
            return nullcontext()
        if self._sharing is None:
            models = [self.accelerator.unwrap_model(m) for m in (self.model, self.ref_model) if m is not None]
            self._sharing = PromptSharing(models)
        return self._sharing.on()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """As DPOTrainer's, with shared prompts, unless ``compute_metrics`` shall see logits."""
        with nullcontext() if return_outputs else self._prompts_shared():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """As DPOTrainer's, with shared prompts."""
        with self._prompts_shared():
            return super().compute_ref_log_probs(model, inputs)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if "prompt_ids" in columns_of(dataset):
            return dataset
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        if "ref_chosen_logps" in dataset.column_names:
            return dataset
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def _log_batch(self, inputs: dict[str, Tensor], metrics: Mapping[str, float]) -> None:
        """Record the metrics of a batch, and the tokens of all processes if it is trained on. A log has means over
        batches."""
        mode = "train" if self.model.training else "eval"
        if mode == "train":
            self._total_train_tokens += int(self.accelerator.gather(inputs["attention_mask"].sum()).sum())
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        for name, value in metrics.items():
            self._metrics[mode][name].append(value)

    def _aux_loss(self, outputs: Any) -> Any:
        """The load-balancing loss of a mixture of experts times its coefficient, as TRL adds it; 0 for other models."""
        if not self.aux_loss_enabled:
            return 0.0
        self._metrics["train" if self.model.training else "eval"]["aux_loss"].append(outputs.aux_loss.item())
        return self.router_aux_loss_coef * outputs.aux_loss


class CompletionScores(NamedTuple):
    """Completions of N rows under a model, with the model's outputs.

    Attributes:
        logps: summed log-probability of each completion, shape (N,), nats.
        lengths: tokens of each completion, shape (N,), in the dtype of ``logps``.
        outputs: what the model returned.
    """

    logps: Tensor
    lengths: Tensor
    outputs: Any


class PairScores(NamedTuple):
    """The two completions of B pairs under a model, with the model's outputs."""

    sides: Sides
    outputs: Any


def completion_scores(model: Any, inputs: dict[str, Tensor], aux_loss: bool = False) -> CompletionScores:
    """Log-probability and length of each row's completion, by one forward with TRL's fused LM head.

    Args:
        model: with TRL's fused LM head.
        inputs: a batch by TRL's collator, (N, L).
        aux_loss: whether the outputs shall hold the load-balancing loss of a mixture of experts.
    """
    completion = inputs["completion_mask"]
    outputs = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        labels=inputs["input_ids"].masked_fill(completion == 0, -100),
        use_cache=False,
        fused_lm_head=True,
        **({"output_router_logits": True} if aux_loss else {}),
    )
    logps = outputs.log_probs[:, -(completion.shape[1] - 1) :].sum(1)
    return CompletionScores(logps, completion[:, 1:].sum(1).to(logps.dtype), outputs)


def pair_scores(model: Any, inputs: dict[str, Tensor], aux_loss: bool = False) -> PairScores:
    """The two completions of each pair, by one forward.

    Args:
        model: with TRL's fused LM head.
        inputs: rows [chosen..., rejected...] (2B, L) by TRL's collator, with ``ref_chosen_logps`` and
            ``ref_rejected_logps`` (B,); zeros stand in where they are absent.
        aux_loss: see :func:`completion_scores`.
    """
    logps, lengths, outputs = completion_scores(model, inputs, aux_loss)
    (lp_1, lp_2), (length_1, length_2) = logps.chunk(2), lengths.chunk(2)
    zeros = torch.zeros_like(lp_1)
    refs = inputs.get("ref_chosen_logps", zeros), inputs.get("ref_rejected_logps", zeros)
    return PairScores(Sides(lp_1, lp_2, *refs, length_1, length_2), outputs)
