"""What all trainers share: arguments, adapters, metering, budget enforcement, checkpoints and resume."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from harness.budget import Ledger
from harness.errors import UserError
from harness.methods.base import TrainContext
from harness.recipe import LoraSpec
from harness.store import read_json, write_json


def planned_steps(context: TrainContext) -> int:
    """Optimiser steps that the budget buys."""
    return context.budget.steps(context.train.batch_size * context.train.gradient_accumulation)


def arguments(context: TrainContext) -> dict[str, Any]:
    """Arguments of TRL's DPOConfig that are the same for every method."""
    from sail.config import cpu_arguments

    steps = planned_steps(context)
    return {
        "output_dir": str(context.directory / "checkpoints"),
        "max_steps": steps,
        "per_device_train_batch_size": context.train.batch_size,
        "gradient_accumulation_steps": context.train.gradient_accumulation,
        "learning_rate": context.learning_rate,
        "lr_scheduler_type": "constant",
        "beta": context.train.beta,
        "max_length": context.train.max_length,
        "max_grad_norm": context.train.max_grad_norm,
        "seed": context.seed,
        "data_seed": context.seed,
        "save_strategy": "steps",
        "save_steps": max(1, math.ceil(steps / context.train.checkpoints)),
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


class BudgetCallback(TrainerCallback):  # type: ignore[misc]
    """Charges steps and pairs, stops at the first step boundary where the budget is spent, saves the ledger with each
    checkpoint and stops a run whose weights are no longer numbers."""

    def __init__(self, context: TrainContext) -> None:
        self.context = context
        self._started = time.perf_counter()

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Charge a micro-batch; all are full, since the last one of an epoch is dropped if it is not."""
        self.context.ledger.add("train", "pairs", args.per_device_train_batch_size)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Charge the step with its last micro-batch."""
        context = self.context
        self.on_substep_end(args, state, control)
        now = time.perf_counter()
        context.ledger.add("train", "seconds", now - self._started)
        self._started = now
        context.ledger.add("train", "steps", 1)
        context.on_step(state.global_step)
        if context.ledger.get("train", context.budget.axis) >= context.budget.limit:
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Stop at a loss that is not a number: the weights are lost from here on."""
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            raise FloatingPointError(f"the loss is {logs['loss']} at step {state.global_step}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the ledger beside the checkpoint, so that a resumed run goes on counting from there."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_json(folder / "ledger.json", self.context.ledger.dump())


def dataset(context: TrainContext) -> Any:
    """The stored pairs as a data set of token ids, with a row number that names each example."""
    from datasets import Dataset

    columns = ("prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps")
    return Dataset.from_list([{"example_id": i, **{c: r[c] for c in columns}} for i, r in enumerate(context.pairs)])


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: its ledger is written last."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "ledger.json").is_file()]
    return max(found, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def run_trainer(context: TrainContext, trainer_class: Any, args: Any, **options: Any) -> Path:
    """Build the trainer on a fresh copy of the start policy, train or resume, and save the policy.

    Raises:
        UserError: the budget cannot buy one step.
    """
    if planned_steps(context) < 1:
        raise UserError(
            f"Budget {context.budget.name!r} ({context.budget.limit} {context.budget.axis}) cannot buy one step of "
            f"{context.train.batch_size * context.train.gradient_accumulation} pairs: raise its limit"
        )
    if len(context.pairs) < context.train.batch_size:
        raise UserError(
            f"{len(context.pairs)} preference pairs do not fill one batch of {context.train.batch_size}: "
            "raise data.train_prompts or lower train.batch_size"
        )
    model = context.load_model()
    lora = context.train.lora
    peft_config = lora_config(lora, model) if lora else None
    trainer = trainer_class(
        model=model,
        ref_model=None if lora else context.load_model(),
        args=args,
        train_dataset=dataset(context),
        processing_class=context.tokenizer,
        peft_config=peft_config,
        callbacks=[BudgetCallback(context)],
        **options,
    )
    last = newest_checkpoint(Path(args.output_dir))
    if last is not None:
        restored = Ledger.load(read_json(last / "ledger.json"))
        context.ledger.entries = restored.entries
        context.ledger.peak_memory_bytes = restored.peak_memory_bytes
        context.on_step(_step(last))
    if last is not None and _step(last) >= planned_steps(context):
        trainer._load_from_checkpoint(str(last))
        history = read_json(last / "trainer_state.json")["log_history"]
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        history = trainer.state.log_history
    context.log.extend(row for row in history if "loss" in row)
    if not all(bool(p.isfinite().all()) for p in trainer.model.parameters() if p.requires_grad):
        raise FloatingPointError("the trained weights are not finite numbers")
    context.ledger.note_memory()
    folder = context.directory / "policy"
    trainer.save_model(str(folder))
    return folder
