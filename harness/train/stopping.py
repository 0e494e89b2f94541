"""When training stops: steps and pairs charged, the budget enforced, checkpoints kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from harness.errors import UserError
from harness.train.checkpoints import LEDGER, write_record
from harness.train.context import TrainContext
from harness.train.joint import JointLedger
from sail.ranks import all_ranks


def pairs_per_step(context: TrainContext) -> int:
    """Pairs of an optimiser step."""
    return context.train.pairs_per_step


def planned_steps(context: TrainContext) -> int | None:
    """Most optimiser steps that the budget can buy; None where that depends on what steps turn out to cost."""
    return context.budget.steps(pairs_per_step(context))


@dataclass(frozen=True)
class Goal:
    """When training ends: at this share of the budget, or after this many steps of the whole run."""

    share: float = 1.0
    steps: int | None = None

    def reached(self, context: TrainContext) -> bool:
        """Whether training ends here, at a step boundary."""
        return self.reached_at(context.share(), context)

    def reached_at(self, share: float, context: TrainContext) -> bool:
        """As :meth:`reached`, where this share of the budget is spent."""
        return share >= self.share or (self.steps is not None and context.ledger.get("train", "steps") >= self.steps)


class BudgetCallback(TrainerCallback):  # type: ignore[misc]
    """Charges steps and pairs, stops at the first step boundary that reaches the goal, saves checkpoints (each with the
    ledger) and policies at shares of the budget, and stops a run whose weights are no longer numbers.

    A run also ends after a pass over its pairs in which nothing was spent on the matched axis: no step could spend it.

    Args:
        context: of the run.
        goal: when training ends.
        pairs: number of pairs in the data set.

    Attributes:
        save: saves the policy into a folder; set once the trainer exists.
    """

    def __init__(self, context: TrainContext, goal: Goal, pairs: int) -> None:
        self.context, self.goal = context, goal
        self.patience = max(1, pairs // pairs_per_step(context))
        self.save: Callable[[str], None] | None = None
        self.joint = JointLedger(context.ledger)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Charge a micro-batch; all are full, since the last one of an epoch is dropped if it is not."""
        self.context.ledger.add("train", "pairs", args.per_device_train_batch_size)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Charge the step with its last micro-batch; save and stop where it is time to."""
        context, ledger = self.context, self.context.ledger
        self.on_substep_end(args, state, control)
        ledger.add("train", "steps", 1)
        context.tick()
        context.meter.flush()
        self.joint.join()
        share, spent = context.budget.share(ledger), context.budget.spent(ledger)
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
        """Whether the goal is reached, or the matched axis has stood still for a pass over the pairs."""
        context = self.context
        share = context.budget.share(context.ledger)  # the same in all processes, which the seconds since are not
        return self.goal.reached_at(share, context) or context.ledger.progress.get("still", 0) >= self.patience

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Pass the row on. Stop at a loss that is not a number: the weights are lost from here on."""
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss is {logs['loss']} at step {state.global_step}")
        self.context.on_log(len(self.context.log) + state.global_step, logs)  # every step is logged, in every round

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the ledger beside the checkpoint, so that a resumed run goes on counting from there."""
        all_ranks(None)  # each has written its part of the checkpoint
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.context.tick()
        write_record(folder / LEDGER, self.context.ledger.dump())


def check_budget(context: TrainContext, rows: Sequence[dict[str, Any]]) -> None:
    """Refuse a training whose budget cannot buy one step, or whose pairs cannot fill one batch.

    Raises:
        UserError: the budget cannot buy one step, or there are too few pairs for one batch.
    """
    if planned_steps(context) == 0:
        raise UserError(cannot_buy(context, None))
    batch = context.train.batch_size * context.train.processes
    if len(rows) < batch:
        raise UserError(
            f"{len(rows)} preference pairs do not fill one batch of {batch}: "
            "raise data.train_prompts or lower train.batch_size"
        )


def cannot_buy(context: TrainContext, cost: float | None) -> str:
    """The sentence for a budget that is too small; ``cost``: of one step, if it is known."""
    budget, cost_text = context.budget, "" if cost is None else f", which costs {cost:.4g}"
    return (
        f"Budget {budget.name!r} ({budget.limit:g} {budget.axis}) cannot buy one step of {pairs_per_step(context)} "
        f"pairs{cost_text}: raise its limit"
    )
