"""What a recipe says of training: the settings that every method shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from harness.budget.spec import Strict
from harness.errors import unknown

Precision = Literal["float32", "bf16-mixed", "bf16"]

Sharding = Literal["fsdp2", "zero3"]

OPTIMISERS = (
    *("adamw_torch", "adamw_torch_fused", "adamw_torch_4bit", "adamw_torch_8bit", "adamw_bnb_8bit", "adamw_8bit"),
    *("paged_adamw_32bit", "paged_adamw_8bit", "adamw_anyprecision", "stable_adamw", "grokadamw", "adafactor"),
    *("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "sgd", "adagrad"),
    *("lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit"),
    *("rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
)
"""Optimisers of transformers that step once a step, as a budget counts: not the layer-wise, projected and schedule-free
ones."""

SCHEDULES = (
    *("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "cosine_with_min_lr"),
    *("cosine_warmup_with_min_lr", "polynomial", "inverse_sqrt", "warmup_stable_decay"),
)
"""Schedules of transformers that need no evaluation in training."""

WITHOUT_LENGTH = ("constant", "constant_with_warmup", "inverse_sqrt")
"""Schedules that are the same whatever the number of steps, but for a warm-up that is a share of them."""

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
    "report_to": "report_to, at the top level of a recipe, or --report-to",
    "save_strategy": "train.checkpoints",
    "seed": "seeds",
    "tf32": "tf32",
    "warmup_ratio": "train.warmup",
    "warmup_steps": "train.warmup",
    "weight_decay": "train.weight_decay",
}
"""Arguments of TRL's ``DPOConfig`` that are not ``train.extra``'s, and the key of a recipe that sets them."""

EXTRA = (
    *("adam_beta1", "adam_beta2", "adam_epsilon", "optim_args", "lr_scheduler_kwargs", "disable_dropout"),
    *("router_aux_loss_coef", "pad_to_multiple_of", "activation_offloading", "gradient_checkpointing_kwargs"),
    *("torch_empty_cache_steps", "dataloader_num_workers", "dataloader_prefetch_factor"),
    *("dataloader_persistent_workers", "dataloader_pin_memory", "full_determinism"),
)
"""Arguments of TRL's ``DPOConfig`` that do the same in the trainer of every method. The others choose the loss, the
reference or the data, which a comparison fixes, or concern evaluation, logging and saving, which it does itself."""


_DEVICES = "train.processes says on how many GPUs a run trains, and train.sharding what they share"
_REPORTS = "the comparison writes the training log itself, into each result file (train_log)"
_SAVES = "the comparison saves by itself: train.checkpoints says how often, --store where"
_EVALUATES = "nothing is evaluated in training: benchmarks measure the trained policy"
_LOSS = "it would change the loss or the reference, in which methods differ: method_options sets what they offer"
_DATA = "the comparison makes the batches itself, so that all methods train on the same ids"
_SPEED = "it is not supported: train.attention, precision and tf32 are what makes training faster"

_REASONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_DEVICES, ("deepspeed", "fsdp", "ddp_", "accelerator_config", "parallelism_config", "local_rank")),
    (_REPORTS, ("log", "run_name", "project", "trackio", "disable_tqdm", "include_num_input")),
    (_SAVES, ("save_", "push_to_hub", "hub_", "resume_", "restore_callback", "enable_jit_ch", "ignore_data_skip")),
    (_EVALUATES, ("eval_", "per_device_eval", "do_", "load_best", "metric_for", "greater_is", "prediction_loss")),
    (_EVALUATES, ("include_for_metrics", "batch_eval", "bf16_full_eval", "fp16_full_eval", "label_names")),
    (_LOSS, ("loss_", "f_", "ld_alpha", "label_smoothing", "use_weighting", "discopop", "sync_ref", "ref_model")),
    (_LOSS, ("neftune", "precompute_ref")),
    (_DATA, ("dataset_num_proc", "truncation_mode", "padding_free", "pad_token", "dataloader_", "remove_unused")),
    (_DATA, ("train_sampling", "length_column", "auto_find_batch")),
    (_SPEED, ("torch_compile", "use_liger", "liger_")),
    ("train.gradient_checkpointing sets it", ("activation_checkpointing",)),
    ("a GPU is used where there is one: CUDA_VISIBLE_DEVICES= in the environment hides it", ("use_cpu",)),
    ("model and train.attention set it", ("model_init_kwargs", "trust_remote_code")),
)
"""Why arguments of TRL's ``DPOConfig`` that are neither in :data:`EXTRA` nor in :data:`OWNED` are refused, by how their
names begin."""


def refused_argument(name: str) -> str:
    """Why an argument that TRL's ``DPOConfig`` does have is not a recipe's to set; nothing if it has no such argument.

    TRL is imported, which takes seconds: only an error comes here.
    """
    from dataclasses import fields

    from trl import DPOConfig

    if name not in {field.name for field in fields(DPOConfig)}:
        return ""
    reasons = (reason for reason, starts in _REASONS if name.startswith(starts))
    return next(reasons, "it is not supported, since it does not do the same in the trainer of every method")


class LoraSpec(Strict):
    """Low-rank adapter on the linear layers.

    Attributes:
        r: rank.
        alpha: scale; the adapter's output is multiplied by alpha / r.
        layers: how many of the top blocks have it; 0 for all.
    """

    r: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0)
    layers: int = Field(default=0, ge=0)


ONE_PROCESS = {"processes": 1, "sharding": None}
"""Settings of a training in one process. Records lack them then, so that keys are those of earlier versions."""


class TrainSpec(Strict):
    """Settings that every method shares.

    Attributes:
        batch_size: pairs of a micro-batch, in each process.
        gradient_accumulation: micro-batches of an optimiser step.
        beta: scale of the implicit reward, for methods whose options set none.
        max_length: tokens of prompt and response at which a row is cut.
        max_grad_norm: norm at which gradients are clipped.
        lora: the adapter; ``null`` trains all weights.
        checkpoints: how many checkpoints one run writes.
        optim: name of the optimiser, one of :data:`OPTIMISERS`.
        lr_scheduler: name of the schedule, one of :data:`SCHEDULES`. Its length is the steps that the budget fixes, or
            is predicted to buy.
        warmup: steps of warm-up, or below 1 their share of all steps.
        weight_decay: weight decay of the optimiser.
        gradient_checkpointing: whether activations are computed again in the backward pass instead of kept; ``null``
            does so on a GPU.
        attention: attention implementation of transformers (``sdpa``, ``flash_attention_2``, ``eager``); its choice if
            ``null``.
        processes: in which a run trains side by side, each on a GPU of its own (docs/clusters.md). A step has
            ``batch_size`` pairs times ``gradient_accumulation`` times ``processes``.
        sharding: how the processes share weights, gradients and the optimiser's state: ``fsdp2`` (torch's
            ``fully_shard``), ``zero3`` (DeepSpeed), or each holds all of them if ``null``.
        extra: further arguments of TRL's ``DPOConfig``, for every method: those of :data:`EXTRA`.
    """

    batch_size: int = Field(default=8, gt=0, le=10**6)
    gradient_accumulation: int = Field(default=1, gt=0, le=10**6)
    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    max_length: int = Field(default=512, gt=0, le=10**8)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora: LoraSpec | None = LoraSpec()
    checkpoints: int = Field(default=4, gt=0, le=10**6)
    optim: str = "adamw_torch_fused"
    lr_scheduler: str = "constant"
    warmup: float = Field(default=0, ge=0)
    weight_decay: float = Field(default=0, ge=0, allow_inf_nan=False)
    gradient_checkpointing: bool | None = None
    attention: str | None = Field(default=None, min_length=1)
    processes: int = Field(default=1, gt=0, le=1024)
    sharding: Sharding | None = None
    extra: dict[str, Any] = {}

    @field_validator("optim")
    @classmethod
    def _optimiser(cls, value: str) -> str:
        return _one_of("optimiser", value, OPTIMISERS)

    @field_validator("lr_scheduler")
    @classmethod
    def _schedule(cls, value: str) -> str:
        return _one_of("schedule", value, SCHEDULES)

    @field_validator("warmup")
    @classmethod
    def _whole_or_share(cls, value: float) -> float:
        if value >= 1 and value % 1:
            raise ValueError(f"{value} is neither a number of steps nor a share below 1: give a whole number")
        return value

    @field_validator("extra")
    @classmethod
    def _not_owned(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in OWNED:
                raise ValueError(f"{name} is not set here: a comparison sets it by {OWNED[name]}")
            if name not in EXTRA and (reason := refused_argument(name)):
                raise ValueError(f"{name} is not set here: {reason}")
            if name not in EXTRA:
                raise ValueError(_unknown("argument", name, EXTRA))
        return value

    @model_validator(mode="after")
    def _used(self) -> TrainSpec:
        if self.warmup and self.lr_scheduler == "constant":
            raise ValueError(
                f"warmup: {self.warmup:g} has no effect with lr_scheduler: constant: set constant_with_warmup, or "
                "leave warmup out"
            )
        if "lr_scheduler_kwargs" in self.extra and self.lr_scheduler.startswith("constant"):
            raise ValueError(
                f"extra.lr_scheduler_kwargs has no effect with lr_scheduler: {self.lr_scheduler}: leave it out"
            )
        if self.sharding and self.processes == 1:
            raise ValueError(
                f"sharding: {self.sharding} shares weights between processes, and there is one: set processes"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_recorded(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        one = {name for name, value in ONE_PROCESS.items() if fields.get(name) == value}
        return {name: value for name, value in fields.items() if name not in one}

    @property
    def pairs_per_step(self) -> int:
        """Pairs of an optimiser step."""
        return self.batch_size * self.gradient_accumulation * self.processes

    def warmup_steps(self, steps: int) -> int:
        """Steps of warm-up in a training of so many steps."""
        return int(self.warmup) if self.warmup >= 1 else math.ceil(self.warmup * steps)


def _one_of(kind: str, name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ValueError(_unknown(kind, name, names))
    return name


def _unknown(kind: str, name: str, names: Sequence[str]) -> str:
    """The sentence for a name that is none of these, with the nearest."""
    return str(unknown(kind, name, names))
