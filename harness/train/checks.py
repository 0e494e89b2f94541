"""What can be known of a recipe's training settings before any work, once the start policy is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.recipe.train import LoraSpec, Precision, TrainSpec
from harness.train.schedule import peak, peak_fault
from harness.train.settings import lora_config, no_lora, shared_arguments, typed

TRIED_STEPS = 100
"""Length of the schedule that is tried where nothing tells how long a training will be."""


class Lengths(NamedTuple):
    """How many steps trainings, or their rounds, will have.

    Attributes:
        fixed: where the budget, or the number of epochs, fixes them.
        predicted: where they are only predicted.
    """

    fixed: Sequence[int] = ()
    predicted: Sequence[int] = ()


def check_settings(
    train: TrainSpec,
    precision: Precision,
    start: Path,
    *,
    rates: Sequence[float] = (1.0,),
    lengths: Lengths | None = None,
) -> None:
    """Refuse settings that this machine, or this model, cannot train with.

    Args:
        train: of the recipe.
        precision: of the recipe.
        start: folder of the start policy.
        rates: learning rates of the trainings.
        lengths: their steps, if anything tells them.

    Raises:
        UserError: names the key, the reason and the fix.
    """
    from trl import DPOConfig

    _check_used(train, start)
    plain = train.model_copy(update={"extra": {}})
    with _refused("precision", precision, "set float32"):
        DPOConfig(output_dir=str(start), **shared_arguments(plain, precision))
    with _refused("train.extra", "its values", "correct or remove them"):
        settings = DPOConfig(output_dir=str(start), **shared_arguments(train, precision))
        _try(settings)
    with _refused("train.optim", train.optim, "install what it needs, or set adamw_torch"):
        _optimiser(settings)
        unread = list(_unread(train, precision, start))
    if unread:
        raise UserError(f"train.extra.{unread[0]} has no effect with train.optim: {train.optim}: leave it out")
    _check_schedule(settings, train, rates, lengths or Lengths())
    if train.attention:
        with _refused("train.attention", train.attention, "leave it out, or set sdpa or eager"):
            _empty_model(start, attn_implementation=train.attention)


@contextmanager
def _refused(key: str, value: str, fix: str) -> Iterator[None]:
    """What goes wrong inside, as a sentence about a key."""
    try:
        yield
    except (ImportError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"{key}: {value} cannot be used here ({reason}): {fix}") from None


def _check_used(train: TrainSpec, start: Path) -> None:
    """Refuse arguments that nothing would read: by the other settings, on this machine, or in this model."""
    from transformers import AutoConfig

    from sail.config import has_accelerator

    extra = typed(train.extra)
    for part in (extra.get("optim_args") or "").split(","):
        if part.partition("=")[0].strip() == "weight_decay":
            raise UserError("train.extra.optim_args: weight_decay has no effect here: set train.weight_decay")
    if "gradient_checkpointing_kwargs" in extra and train.gradient_checkpointing is False:
        raise UserError(
            "train.extra.gradient_checkpointing_kwargs has no effect with train.gradient_checkpointing: false: leave "
            "it out"
        )
    if extra.get("activation_offloading") and not has_accelerator():
        raise UserError("train.extra.activation_offloading needs a GPU, and there is none here: leave it out")
    config = AutoConfig.from_pretrained(start).get_text_config()
    if extra.get("router_aux_loss_coef") and not hasattr(config, "output_router_logits"):
        raise UserError(
            "train.extra.router_aux_loss_coef has no effect, since the start policy is no mixture of experts: leave it "
            "out"
        )


def _try(settings: Any) -> None:
    """Use on one number what trainers read when they train: padding, the data loader, checkpointing."""
    import torch
    from torch.utils.checkpoint import checkpoint
    from torch.utils.data import DataLoader, TensorDataset

    one, multiple = torch.ones(1, requires_grad=True), settings.pad_to_multiple_of
    if multiple is not None and multiple < 1:
        raise ValueError(f"pad_to_multiple_of is {multiple}, which is no number of tokens")
    DataLoader(
        TensorDataset(one),
        num_workers=settings.dataloader_num_workers,
        persistent_workers=settings.dataloader_persistent_workers,
        prefetch_factor=settings.dataloader_prefetch_factor,
    )
    checkpoint(torch.exp, one, **{"use_reentrant": False, **(settings.gradient_checkpointing_kwargs or {})})


def _optimiser(settings: Any) -> Any:
    """An optimiser of one weight, by the settings of a trainer."""
    import torch
    from transformers import Trainer

    kind, options = Trainer.get_optimizer_cls_and_kwargs(settings)
    return kind([torch.nn.Parameter(torch.zeros(1))], **options)


def _unread(train: TrainSpec, precision: Precision, start: Path) -> Iterator[str]:
    """Arguments of the optimiser in ``train.extra`` that it does not read: another value changes nothing."""
    from transformers import Trainer
    from trl import DPOConfig

    def options(extra: dict[str, Any]) -> Any:
        """What the optimiser is made with."""
        other = train.model_copy(update={"extra": extra})
        settings = DPOConfig(output_dir=str(start), **shared_arguments(other, precision))
        return Trainer.get_optimizer_cls_and_kwargs(settings)

    given, extra = options(train.extra), train.extra
    for name in extra:
        if name.startswith("adam_") and options(extra | {name: 0.5 if extra[name] != 0.5 else 0.25}) == given:
            yield name
    parts = [part for part in (extra.get("optim_args") or "").split(",") if part]
    for part in parts:
        others = ",".join(other for other in parts if other != part)
        if options(extra | {"optim_args": others}) == given:
            yield f"optim_args: {part.strip()}"


def _check_schedule(settings: Any, train: TrainSpec, rates: Sequence[float], lengths: Lengths) -> None:
    """Refuse a schedule that cannot be made for one of the trainings, or that would miss the learning rate in one whose
    steps are fixed. (Where they are predicted, the training says so: :mod:`harness.train.schedule`.)"""
    name, fix = train.lr_scheduler, "set train.extra.lr_scheduler_kwargs to what it takes"
    for steps in dict.fromkeys([*lengths.fixed, *lengths.predicted] or [TRIED_STEPS]):
        for rate in rates:
            with _refused("train.lr_scheduler", name, fix):
                share = peak(settings, rate, steps)
            if steps not in lengths.fixed:
                continue
            if settings.get_warmup_steps(steps) >= steps:
                raise UserError(
                    f"train.warmup: {train.warmup:g} would not end before training does, which takes {steps:,} steps: "
                    "lower it"
                )
            if fault := peak_fault(share, steps):
                raise UserError(
                    f"train.lr_scheduler: {name} does not fit the learning rate {rate:g} and the length of training "
                    f"({fault}): correct train.extra.lr_scheduler_kwargs"
                )


def _empty_model(start: Path, **options: Any) -> Any:
    """The start policy by its configuration alone, without memory for weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(start), **options)


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

    model = _empty_model(start)
    with torch.device("meta"):
        config = lora_config(spec, model)
        try:
            get_peft_model(model, config)
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            raise no_lora(model, " ".join(str(error).split())[:200].rstrip(".")) from None
