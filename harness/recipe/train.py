"""What a recipe says of training: the settings that every method shares."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from harness.budget.spec import Strict

Precision = Literal["float32", "bf16-mixed", "bf16"]

OWNED = {
    "beta": "train.beta",
    "bf16": "precision",
    "fp16": "precision",
    "data_seed": "seeds",
    "gradient_accumulation_steps": "train.gradient_accumulation",
    "gradient_checkpointing": "train.gradient_checkpointing",
    "learning_rate": "tune.learning_rates",
    "loss_type": "methods",
    "lr_scheduler_type": "train.lr_scheduler",
    "max_grad_norm": "train.max_grad_norm",
    "max_length": "train.max_length",
    "max_steps": "budgets",
    "num_train_epochs": "budgets",
    "optim": "train.optim",
    "output_dir": "--store",
    "per_device_train_batch_size": "train.batch_size",
    "precompute_ref_log_probs": "methods",
    "save_strategy": "train.checkpoints",
    "seed": "seeds",
    "tf32": "tf32",
    "warmup_ratio": "train.warmup",
    "warmup_steps": "train.warmup",
    "weight_decay": "train.weight_decay",
}
"""Arguments of TRL's ``DPOConfig`` that are not ``train.extra``'s, and the key of a recipe that sets them."""


class LoraSpec(Strict):
    """Low-rank adapter on the linear layers of the top ``layers`` blocks (all blocks if 0)."""

    r: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0)
    layers: int = Field(default=0, ge=0)


class TrainSpec(Strict):
    """Settings that every method shares.

    Attributes:
        batch_size: pairs of a micro-batch.
        gradient_accumulation: micro-batches of an optimiser step.
        beta: scale of the implicit reward, for methods whose options set none.
        max_length: tokens of prompt and response at which a row is cut.
        max_grad_norm: at which gradients are clipped.
        lora: the adapter; ``null`` trains all weights.
        checkpoints: written over one run.
        optim: name of the optimiser, one of transformers' (``adamw_torch``, ``paged_adamw_8bit``, ``rmsprop`` ...).
        lr_scheduler: name of the schedule, one of transformers'. Its length is the steps that the budget is predicted
            to buy.
        warmup: steps of warm-up, or below 1 their share of all steps.
        weight_decay: of AdamW.
        gradient_checkpointing: whether activations are computed again in the backward pass instead of kept; ``null``
            does so on a GPU.
        attention: attention implementation of transformers (``sdpa``, ``flash_attention_2``, ``eager``); its choice if
            ``null``.
        extra: further arguments of TRL's ``DPOConfig``, for every method.
    """

    batch_size: int = Field(default=8, gt=0)
    gradient_accumulation: int = Field(default=1, gt=0)
    beta: float = Field(default=0.1, gt=0)
    max_length: int = Field(default=512, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora: LoraSpec | None = LoraSpec()
    checkpoints: int = Field(default=4, gt=0)
    optim: str = "adamw_torch"
    lr_scheduler: str = "constant"
    warmup: float = Field(default=0, ge=0)
    weight_decay: float = Field(default=0, ge=0)
    gradient_checkpointing: bool | None = None
    attention: str | None = None
    extra: dict[str, Any] = {}

    @field_validator("extra")
    @classmethod
    def _not_owned(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in OWNED:
                raise ValueError(f"{name} is not set here: a comparison sets it by {OWNED[name]}")
        return value
