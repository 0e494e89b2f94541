"""What all trainers share: arguments, adapters, metering, budget enforcement, checkpoints and resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from harness.errors import UserError
from harness.methods.base import TrainContext
from harness.recipe import LoraSpec
from harness.store import read_json, write_json

ENDLESS = 10**7


def pairs_per_step(context: TrainContext) -> int:
    """Pairs of an optimiser step."""
    return context.train.batch_size * context.train.gradient_accumulation


def planned_steps(context: TrainContext) -> int | None:
    """Most optimiser steps that the budget can buy; None where only spending tells."""
    return context.budget.steps(pairs_per_step(context))


@dataclass(frozen=True)
class Goal:
    """When training ends: at this share of the budget, or after this many steps of the whole run."""

    share: float = 1.0
    steps: int | None = None

    def reached(self, context: TrainContext) -> bool:
        """At a step boundary."""
        done = context.ledger.get("train", "steps")
        return context.share() >= self.share or (self.steps is not None and done >= self.steps)


def arguments(context: TrainContext) -> dict[str, Any]:
    """Arguments of TRL's DPOConfig that are the same for every method."""
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


class BudgetCallback(TrainerCallback):  # type: ignore[misc]
    """Charges steps and pairs, stops at the first step boundary that reaches the goal, saves checkpoints (each with the
    ledger) and policies at shares of the budget, and stops a run whose weights are no longer numbers.

    A run also ends after a pass over its pairs in which nothing was spent on the matched axis: no step could spend it.
    """

    def __init__(self, context: TrainContext, goal: Goal, pairs: int) -> None:
        self.context, self.goal = context, goal
        self.patience = max(1, pairs // pairs_per_step(context))
        self.save: Callable[[str], None] | None = None

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Charge a micro-batch; all are full, since the last one of an epoch is dropped if it is not."""
        self.context.ledger.add("train", "pairs", args.per_device_train_batch_size)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Charge the step with its last micro-batch; keep what is to be kept."""
        context, ledger = self.context, self.context.ledger
        self.on_substep_end(args, state, control)
        ledger.add("train", "steps", 1)
        context.tick()
        share, spent = context.share(), context.budget.spent(ledger)
        if ledger.get("train", "steps") == 1 and spent > context.budget.limit:
            raise UserError(cannot_buy(context, spent))
        before = ledger.progress.get("share", 0.0)
        still = ledger.progress.get("still", 0) + 1 if spent == ledger.progress.get("at") else 0
        ledger.progress = {"share": share, "at": spent, "still": still}
        for fraction in context.fractions:
            if before < fraction <= share and self.save is not None:
                self.save(str(context.directory / "fractions" / f"{fraction:g}"))
        context.on_step(state.global_step)
        control.should_training_stop = control.should_training_stop or self.finished()
        parts = context.train.checkpoints
        control.should_save = control.should_training_stop or int(before * parts) < int(share * parts)

    def finished(self) -> bool:
        """Whether training ends here."""
        return self.goal.reached(self.context) or self.context.ledger.progress.get("still", 0) >= self.patience

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
    if planned_steps(context) == 0:
        raise UserError(cannot_buy(context, None))
    if len(rows) < context.train.batch_size:
        raise UserError(
            f"{len(rows)} preference pairs do not fill one batch of {context.train.batch_size}: "
            "raise data.train_prompts or lower train.batch_size"
        )


def cannot_buy(context: TrainContext, cost: float | None) -> str:
    """The sentence for a budget that is too small."""
    budget, told = context.budget, "" if cost is None else f", which costs {cost:.4g}"
    return (
        f"Budget {budget.name!r} ({budget.limit:g} {budget.axis}) cannot buy one step of {pairs_per_step(context)} "
        f"pairs{told}: raise its limit"
    )


def run_trainer(
    context: TrainContext,
    trainer_class: Any,
    args: Any,
    *,
    needs_reference: bool = True,
    rows: Sequence[dict[str, Any]] | None = None,
    policies: Policies | None = None,
    goal: Goal | None = None,
    **options: Any,
) -> Path:
    """Train (or resume) from the start policy on the stored pairs, unless told otherwise, and save the policy.

    Args:
        needs_reference: whether online rows need the reference in memory (full fine-tuning only).
        rows: other pairs; policies: another beginning; goal: an earlier end than that of the budget.

    Returns:
        the folder ``policy`` beside the checkpoints (``args.output_dir``).
    """
    rows = context.pairs if rows is None else rows
    check_budget(context, rows)
    began = policies or fresh(context, reference=needs_reference)
    budget = BudgetCallback(context, goal or Goal(steps=planned_steps(context)), len(rows))
    trainer = trainer_class(
        model=began.model,
        ref_model=began.reference,
        args=args,
        train_dataset=dataset(rows),
        processing_class=context.tokenizer,
        peft_config=began.peft_config,
        callbacks=[budget],
        **options,
    )
    budget.save = trainer.save_model
    last = newest_checkpoint(Path(args.output_dir))
    if last is not None:
        context.ledger.restore(read_json(last / "ledger.json"))
        context.on_step(_step(last))
    if last is not None and budget.finished():
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
