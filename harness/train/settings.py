"""Settings that all trainers share: arguments of TRL's config, the adapter, the policies that training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from harness.budget.flops import BLOCK
from harness.errors import UserError
from harness.recipe.faults import value_sentence
from harness.recipe.train import LoraSpec, Precision, TrainSpec
from harness.train.context import TrainContext
from harness.train.stopping import planned_steps

ENDLESS = 10**7

FSDP2 = {
    "version": 2,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "reshard_after_forward": True,
    "state_dict_type": "FULL_STATE_DICT",
    "cpu_ram_efficient_loading": False,
}
"""Torch's ``fully_shard`` on each block. Checkpoints hold whole weights."""

ZERO3: dict[str, Any] = {
    "zero_optimization": {
        "stage": 3,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
    "bf16": {"enabled": "auto"},
    "gradient_clipping": "auto",
    "gradient_accumulation_steps": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "train_batch_size": "auto",
}
"""DeepSpeed's ZeRO 3; ``auto`` takes the trainer's values."""


def arguments(context: TrainContext) -> dict[str, Any]:
    """Arguments of TRL's ``DPOConfig`` (and so of ``SAILConfig``) that are the same for every method."""
    from harness.answer.adapter import load_config_of
    from harness.answer.window import window_of

    return {
        "output_dir": str(context.directory / "checkpoints"),
        "max_steps": planned_steps(context) or ENDLESS,
        "per_device_train_batch_size": context.train.batch_size,
        "gradient_accumulation_steps": context.train.gradient_accumulation,
        "learning_rate": context.learning_rate,
        "beta": context.train.beta,
        "max_length": min(context.train.max_length, window_of(load_config_of(str(context.start)))),
        "max_grad_norm": context.train.max_grad_norm,
        "seed": context.seed,
        "data_seed": context.seed,
        "save_strategy": "no",  # BudgetCallback saves by the share of the budget
        "save_total_limit": 2,
        "dataloader_drop_last": True,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **sharding_arguments(context.train),
        **shared_arguments(context.train, context.precision),
    }


def sharding_arguments(train: TrainSpec) -> dict[str, Any]:
    """Arguments of a trainer of transformers by which processes share the weights (``train.sharding``)."""
    if train.sharding == "fsdp2":
        return {"fsdp": True, "fsdp_config": dict(FSDP2)}
    if train.sharding == "zero3":
        return {"deepspeed": deepcopy(ZERO3)}
    return {}


def shared_arguments(train: TrainSpec, precision: Precision) -> dict[str, Any]:
    """Arguments of any trainer of transformers for the optimiser, its schedule, and how memory is saved.

    Args:
        train: of the recipe.
        precision: of the recipe. Under ``bf16`` the base is in bfloat16 already, and autocast is for float32 adapters.
    """
    from sail.config import cpu_arguments, has_accelerator

    recomputed = train.gradient_checkpointing
    return {
        **cpu_arguments(),
        "bf16": precision != "float32",
        "use_cpu": not has_accelerator(),  # without it transformers refuses bf16 on a CPU
        "optim": train.optim,
        "lr_scheduler_type": train.lr_scheduler,
        "warmup_steps": train.warmup,
        "weight_decay": train.weight_decay,
        **({} if recomputed is None else {"gradient_checkpointing": recomputed}),
        **typed(train.extra),
    }


def typed(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``train.extra`` in the types of their arguments: YAML reads ``1e-8`` as a text.

    Raises:
        UserError: one has another type.
    """
    from pydantic import TypeAdapter, ValidationError
    from trl import DPOConfig

    hints, values = get_type_hints(DPOConfig) if extra else {}, {}
    for name, value in extra.items():
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise UserError(f"train.extra.{name}: {value!r} is no value for it: {value_sentence(error)}") from None
    return values


def lora_config(spec: LoraSpec, model: Any) -> Any:
    """PEFT configuration for the linear layers of the top ``spec.layers`` blocks (all if 0), LM head left out.

    GPT-2's ``Conv1D`` is a linear layer. So are the weights of experts that a block keeps in one parameter, with an
    adapter for each expert.

    Raises:
        UserError: the model has fewer blocks, or no such layer.
    """
    import torch
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    layers = model.config.get_text_config().num_hidden_layers
    if spec.layers > layers:
        raise UserError(f"train.lora.layers is {spec.layers}, but the model has {layers} blocks: lower it (0: all)")
    head = model.get_output_embeddings()
    linear = {
        name.rsplit(".", 1)[-1]: isinstance(module, Conv1D)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }
    top = list(range(layers - spec.layers, layers)) if 0 < spec.layers < layers else None
    experts = [name for name, block in _expert_weights(model) if top is None or block in top]
    if not linear and not experts:
        raise no_lora(model, "it has no linear layer")
    return LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        lora_dropout=0.0,
        target_modules=sorted(linear),
        target_parameters=experts or None,
        layers_to_transform=top,
        fan_in_fan_out=any(linear.values()),
        task_type="CAUSAL_LM",
    )


def _expert_weights(model: Any) -> list[tuple[str, int]]:
    """Parameters that hold one matrix for each expert of a block, with the block's number."""
    from torch.nn.modules.conv import _ConvNd

    weights = []
    for name, weight in model.named_parameters():
        block = BLOCK.search(f".{name}")
        owner = model.get_submodule(name.rpartition(".")[0])
        if block is not None and weight.ndim == 3 and not isinstance(owner, _ConvNd):
            weights.append((name, int(block[1])))
    return weights


def no_lora(model: Any, reason: str) -> UserError:
    """The error for a model to which no adapter can be added.

    Args:
        model: of transformers.
        reason: why.
    """
    return UserError(
        f"LoRA does not fit the model {type(model).__name__} ({reason}): set train.lora: null, which trains all weights"
    )


@dataclass
class Policies:
    """What a trainer starts from.

    Attributes:
        model: the policy, metered.
        reference: the reference policy; None for the model with its adapter off, or with the copy that TRL makes of
            the adapter that it comes with.
        peft_config: of the adapter to add, if any; adapter: folder of the saved one that it starts as.
    """

    model: Any
    reference: Any = None
    peft_config: Any = None
    adapter: Path | None = None


def start_policies(context: TrainContext, *, reference: bool = True) -> Policies:
    """The start policy with a new adapter, or, in full fine-tuning, with a copy of itself as the reference."""
    model = context.load_model()
    if context.train.lora:
        return Policies(model, peft_config=lora_config(context.train.lora, model))
    return Policies(model, context.load_model() if reference else None)
