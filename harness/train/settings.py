"""Settings that all trainers share: arguments of TRL's config, the adapter, the policies that training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.recipe.recipe import LoraSpec
from harness.train.context import TrainContext
from harness.train.stopping import planned_steps

ENDLESS = 10**7


def arguments(context: TrainContext) -> dict[str, Any]:
    """Arguments of TRL's ``DPOConfig`` (and so of ``SAILConfig``) that are the same for every method."""
    from sail.config import cpu_arguments

    return {
        "output_dir": str(context.directory / "checkpoints"),
        "max_steps": planned_steps(context) or ENDLESS,
        "per_device_train_batch_size": context.train.batch_size,
        "gradient_accumulation_steps": context.train.gradient_accumulation,
        "learning_rate": context.learning_rate,
        "lr_scheduler_type": "constant",
        "beta": context.train.beta,
        "max_length": context.train.max_length,
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
    """PEFT configuration for the linear layers of the top ``spec.layers`` blocks (all if 0), LM head left out."""
    import torch
    from peft import LoraConfig

    head = model.get_output_embeddings()
    linear = {
        n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head
    }
    layers = model.config.num_hidden_layers
    top = list(range(layers - spec.layers, layers)) if 0 < spec.layers < layers else None
    return LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        lora_dropout=0.0,
        target_modules=sorted(linear),
        layers_to_transform=top,
        task_type="CAUSAL_LM",
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
