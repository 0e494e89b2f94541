"""Settings that all trainers share: arguments of TRL's config, the adapter, the policies that training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.budget.flops import BLOCK
from harness.errors import UserError
from harness.recipe.recipe import LoraSpec
from harness.train.context import TrainContext
from harness.train.stopping import planned_steps

ENDLESS = 10**7


def arguments(context: TrainContext) -> dict[str, Any]:
    """Arguments of TRL's ``DPOConfig`` (and so of ``SAILConfig``) that are the same for every method."""
    from harness.answer.adapter import load_config_of
    from harness.answer.window import window_of
    from sail.config import cpu_arguments

    return {
        "output_dir": str(context.directory / "checkpoints"),
        "max_steps": planned_steps(context) or ENDLESS,
        "per_device_train_batch_size": context.train.batch_size,
        "gradient_accumulation_steps": context.train.gradient_accumulation,
        "learning_rate": context.learning_rate,
        "lr_scheduler_type": "constant",
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
        **cpu_arguments(),
        "bf16": False,  # the weights have the recipe's dtype already
    }


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


def check_lora(spec: LoraSpec, start: Path) -> None:
    """Refuse, from its configuration alone, a start policy to which the recipe's adapter cannot be added.

    Args:
        spec: the recipe's ``train.lora``.
        start: folder of the start policy.

    Raises:
        UserError: names the reason and the fix.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(start))
        config = lora_config(spec, model)
        try:
            get_peft_model(model, config)
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            raise no_lora(model, " ".join(str(error).split())[:200].rstrip(".")) from None


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
        peft_config: of the adapter to add, if any.
    """

    model: Any
    reference: Any = None
    peft_config: Any = None


def start_policies(context: TrainContext, *, reference: bool = True) -> Policies:
    """The start policy with a new adapter, or, in full fine-tuning, with a copy of itself as the reference."""
    model = context.load_model()
    if context.train.lora:
        return Policies(model, peft_config=lora_config(context.train.lora, model))
    return Policies(model, context.load_model() if reference else None)
