"""TRL's DPOTrainer on token ids, and its two CPU traps mended: what all trainers here stand on."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from trl import DPOTrainer


def score_completions_only() -> None:
    """Let TRL's fused LM head project completion tokens only on a CPU too.

    TRL 1.16 leaves the masked positions out on Triton devices and projects all of them elsewhere, for compilers that
    want constant shapes. On a CPU that is over half of a step. The values are the same; the kernel choice is untouched.
    """
    from trl.trainer import utils

    original = utils._use_triton
    if not getattr(original, "compacts_on_cpu", False):

        def compact(device: torch.device) -> bool:
            return device.type == "cpu" or bool(original(device))

        compact.compacts_on_cpu = True  # type: ignore[attr-defined]
        utils._use_triton = compact


class TokenisedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer that trains on exactly the token ids it is given.

    A dataset with columns ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` passes through untouched (the stock trainer
    would render and tokenise text again), and reference log-probabilities that are already there are not recomputed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        score_completions_only()
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if "prompt_ids" in (dataset.column_names or []):
            return dataset
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        if "ref_chosen_logps" in dataset.column_names:
            return dataset
        return super()._precompute_ref_logps(dataset, name, batch_size)
