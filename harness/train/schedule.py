"""The learning rate's schedule under a budget, which may not fix the number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.budget.budget import Budget
from harness.errors import UserError
from harness.recipe.train import WITHOUT_LENGTH, TrainSpec
from harness.store.sealed import read_sealed, write_sealed
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
        _say_if_off(context, trainer, steps)
        return
    record = Path(trainer.args.output_dir) / RECORD
    if (begun := read_sealed(record)) is not None:
        steps = begun["steps"]
    steps = steps or planned_steps(context) or context.predicted_steps
    if steps is None:
        raise unscheduled(context.train, context.budget)
    write_sealed(record, {"steps": steps})
    _say_if_off(context, trainer, steps)
    create, last = trainer.create_scheduler, steps

    def scheduler(num_training_steps: int, optimizer: Any = None) -> Any:
        """As the trainer's, of this length."""
        made = create(last, optimizer)
        made.lr_lambdas = [_held(rate, last) for rate in made.lr_lambdas]
        return made

    trainer.create_scheduler = scheduler


def peak(settings: Any, rate: float, steps: int) -> float:
    """The highest learning rate in a training, as a share of the one that is set.

    Args:
        settings: arguments of a trainer.
        rate: the learning rate that is set.
        steps: of the training.

    Raises:
        ValueError: the schedule cannot be made (as whatever else transformers raises).
    """
    import torch
    from transformers import get_scheduler

    warmup = settings.get_warmup_steps(steps)
    schedule = get_scheduler(
        settings.lr_scheduler_type,
        optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate),
        num_warmup_steps=warmup,
        num_training_steps=steps,
        scheduler_specific_kwargs=settings.lr_scheduler_kwargs,
    )
    tried = {*range(0, steps, max(1, steps // 1000)), min(warmup, steps - 1)}
    return max(float(schedule.lr_lambdas[0](step)) for step in tried)


def peak_fault(share: float, steps: int) -> str:
    """What is wrong with a schedule by its :func:`peak`; nothing if that is the learning rate.

    Args:
        share: the peak.
        steps: of the training.
    """
    if abs(share - 1) < 1e-6:
        return ""
    return f"the highest rate of its {steps:,} steps is {share:.3g} times the learning rate"


def _say_if_off(context: TrainContext, trainer: Any, steps: int | None) -> None:
    """Say so where the steps that are expected end before the schedule is at the learning rate, or it never is."""
    limits = [number for number in (steps, planned_steps(context), context.predicted_steps) if number]
    if not limits:
        return
    expected, settings = min(limits), trainer.args
    if settings.get_warmup_steps(steps or expected) >= expected:
        context.say(
            f"train.warmup: {context.train.warmup:g} will not end: this training is expected to take {expected:,} "
            "steps, none of them at the full learning rate"
        )
    elif fault := peak_fault(peak(settings, context.learning_rate, steps or expected), steps or expected):
        context.say(f"train.lr_scheduler: {context.train.lr_scheduler} does not fit this training: {fault}")


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
