"""Small trainers on the tiny model, for the trainer tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from sail.config import SAILConfig, cpu_arguments
from sail.dpo import TokenisedDPOTrainer
from sail.pairs import TokenisedPair
from sail.trainer import SAILTrainer

EOS = 256


def rows(count: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs of random token ids; every third answer is truncated (no EOS)."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):

        def answer(stops: bool) -> list[int]:
            body: list[int] = rng.integers(0, 256, rng.integers(3, 9)).tolist()
            return [*body, EOS] if stops else body

        out.append(
            {
                "example_id": i,
                "prompt_ids": rng.integers(0, 256, rng.integers(4, 9)).tolist(),
                "chosen_ids": answer(i % 3 != 0),
                "rejected_ids": answer(i % 3 != 1),
            }
        )
    return out


def perturb(model: Any, seed: int = 0, scale: float = 0.02) -> Any:
    """Move all trainable weights away from the reference."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    """Trainer arguments: constant rate, no shuffling surprises, nothing written unless asked."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "beta": 0.3,
        "max_length": None,
        "dataloader_pin_memory": False,
        **cpu_arguments(),
    }
    return settings | changes


def longest(pairs: Sequence[TokenisedPair]) -> list[float]:
    """A preference for the longer response."""
    return [0.5 + 0.5 * ((len(p.first) > len(p.second)) - (len(p.first) < len(p.second))) for p in pairs]


def sail_trainer(
    folder: Path, load: Callable[[], Any], tokenizer: Any, data: list[dict[str, Any]], **changes: Any
) -> SAILTrainer:
    """A SAILTrainer on the tiny model with an explicit reference and full fine-tuning (or a peft_config)."""
    options = {
        k: changes.pop(k) for k in ("preference", "peft_config", "generator", "eval_dataset", "sampler") if k in changes
    }
    if not changes.get("pr_share"):
        options.pop("preference", None)  # it would have nothing to label
    return SAILTrainer(
        model=load(),
        ref_model=changes.pop("ref_model", None if "peft_config" in options else load()),
        args=SAILConfig(**arguments(folder, **changes)),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        **options,
    )


def dpo_trainer(
    folder: Path, load: Callable[[], Any], tokenizer: Any, data: list[dict[str, Any]], **changes: Any
) -> TokenisedDPOTrainer:
    """TRL's DPOTrainer on the same terms."""
    from trl import DPOConfig

    options = {k: changes.pop(k) for k in ("peft_config", "eval_dataset") if k in changes}
    return TokenisedDPOTrainer(
        model=load(),
        ref_model=changes.pop("ref_model", None if "peft_config" in options else load()),
        args=DPOConfig(**arguments(folder, **changes)),
        train_dataset=Dataset.from_list(data).remove_columns("example_id"),
        processing_class=tokenizer,
        **options,
    )


def record_ids(trainer: Any) -> list[list[list[int]]]:
    """Wrap the loss so that the token ids of every micro-batch are noted (padding removed)."""
    seen: list[list[list[int]]] = []
    inner = trainer._compute_loss

    def spy(model: Any, inputs: Any, return_outputs: bool) -> Any:
        ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        seen.append([ids[i][mask[i]].tolist() for i in range(len(ids))])
        return inner(model, inputs, return_outputs)

    trainer._compute_loss = spy
    return seen
