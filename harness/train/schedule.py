"""The learning rate's schedule under a budget, which may not fix the number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.budget.budget import Budget
from harness.errors import UserError
from harness.recipe.train import WITHOUT_LENGTH, TrainSpec
from harness.store.json_files import read_json, write_json
from harness.train.context import TrainContext
from harness.train.stopping import planned_steps

RECORD = "schedule.json"


def needs_length(train: TrainSpec) -> bool:
    """Whether the rate of a step depends on how many steps there will be."""
    return train.lr_scheduler not in WITHOUT_LENGTH or 0 < train.warmup < 1


def set_schedule(context: TrainContext, trainer: Any, steps: int | None = None) -> None:
    """Let a trainer's schedule span the steps that it is expected to take; beyond them its last rate stays.

    The number is kept beside the checkpoints, so that a resumed run has the schedule that it began with.

    Args:
        context: of the run.
        trainer: of transformers.
        steps: expected; those of the whole run if None.

    Raises:
        UserError: the schedule needs a number of steps, and the budget gives none.
    """
    if not needs_length(context.train):
        return
    record = Path(trainer.args.output_dir) / RECORD
    if record.is_file():
        steps = read_json(record)["steps"]
    steps = steps or planned_steps(context) or context.predicted_steps
    if steps is None:
        raise unscheduled(context.train, context.budget)
    write_json(record, {"steps": steps})
    create, last = trainer.create_scheduler, steps

    def scheduler(num_training_steps: int, optimizer: Any = None) -> Any:
        """As the trainer's, of this length."""
        made = create(last, optimizer)
        made.lr_lambdas = [_held(rate, last) for rate in made.lr_lambdas]
        return made

    trainer.create_scheduler = scheduler


def _held(rate: Any, last: int) -> Any:
    """A function of the step whose value after the last step stays."""
    return lambda step: rate(min(step, last))


def unscheduled(train: TrainSpec, budget: Budget) -> UserError:
    """The error for a schedule without a length.

    Args:
        train: of the recipe.
        budget: that does not tell the number of steps.
    """
    warmup = f" with train.warmup: {train.warmup:g}" if train.warmup else ""
    return UserError(
        f"train.lr_scheduler: {train.lr_scheduler}{warmup} needs to know how many steps there will be, and the budget "
        f"{budget.name!r} ({budget.axis}) does not tell: match another axis, or set lr_scheduler: constant_with_warmup "
        "and warmup to a number of steps"
    )
