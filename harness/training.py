"""What all trainers share: arguments, adapters, metering, budget enforcement, checkpoints and resume."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
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

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The first step begins here, not when the model was loaded."""
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
        self.context.tick()
        write_json(folder / "ledger.json", self.context.ledger.dump())


COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps")


def dataset(rows: Sequence[dict[str, Any]]) -> Any:
    """Pairs as a data set of token ids, with a row number that names each example."""
    from datasets import Dataset

    return Dataset.from_list([{"example_id": i, **{c: r[c] for c in COLUMNS if c in r}} for i, r in enumerate(rows)])


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: its ledger is written last."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "ledger.json").is_file()]
    return max(found, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


@dataclass
class Policies:
    """What a trainer starts from: a model, its reference (None: the model with its adapter off, or with the copy that
    TRL makes of the adapter it comes with), and the adapter to add."""

    model: Any
    reference: Any = None
    peft_config: Any = None


def fresh(context: TrainContext, *, reference: bool = True) -> Policies:
    """The start policy with a new adapter, or, in full fine-tuning, with a copy of itself as the reference."""
    model = context.load_model()
    if context.train.lora:
        return Policies(model, peft_config=lora_config(context.train.lora, model))
    return Policies(model, context.load_model() if reference else None)


def check_budget(context: TrainContext, rows: Sequence[dict[str, Any]]) -> None:
    """Fail before training what the budget cannot buy or the data cannot fill.

    Raises:
        UserError: the budget cannot buy one step, or there are too few pairs for one batch.
    """
    per_step = context.train.batch_size * context.train.gradient_accumulation
    if planned_steps(context) < 1:
        raise UserError(
            f"Budget {context.budget.name!r} ({context.budget.limit} {context.budget.axis}) cannot buy one step of "
            f"{per_step} pairs: raise its limit"
        )
    if len(rows) < context.train.batch_size:
        raise UserError(
            f"{len(rows)} preference pairs do not fill one batch of {context.train.batch_size}: "
            "raise data.train_prompts or lower train.batch_size"
        )


def run_trainer(
    context: TrainContext,
    trainer_class: Any,
    args: Any,
    *,
    needs_reference: bool = True,
    rows: Sequence[dict[str, Any]] | None = None,
    policies: Policies | None = None,
    **options: Any,
) -> Path:
    """Train (or resume) from the start policy on the stored pairs, unless told otherwise, and save the policy.

    Args:
        needs_reference: whether online rows need the reference in memory (full fine-tuning only).
        rows: other pairs; policies: another beginning.

    Returns:
        the folder ``policy`` beside the checkpoints (``args.output_dir``).
    """
    rows = context.pairs if rows is None else rows
    check_budget(context, rows)
    began = policies or fresh(context, reference=needs_reference)
    trainer = trainer_class(
        model=began.model,
        ref_model=began.reference,
        args=args,
        train_dataset=dataset(rows),
        processing_class=context.tokenizer,
        peft_config=began.peft_config,
        callbacks=[BudgetCallback(context)],
        **options,
    )
    last = newest_checkpoint(Path(args.output_dir))
    if last is not None:
        restored = Ledger.load(read_json(last / "ledger.json"))
        context.ledger.entries = restored.entries
        context.ledger.peak_memory_bytes = restored.peak_memory_bytes
        context.on_step(_step(last))
    if last is not None and _step(last) >= args.max_steps:
        trainer._load_from_checkpoint(str(last))
        history = read_json(last / "trainer_state.json")["log_history"]
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        history = trainer.state.log_history
    context.log.extend(row for row in history if "loss" in row)
    context.ledger.note_memory()
    folder = Path(args.output_dir).parent / "policy"
    trainer.save_model(str(folder))
    return folder
