"""Settings of the recipe's `train` that reach the trainers, and those that are refused before any work."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.contexts import context
from pydantic import ValidationError
from transformers import get_scheduler
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames
from trl import DPOConfig, RewardConfig

from harness.budget.budget import Budget
from harness.errors import UserError
from harness.methods.base import Method
from harness.recipe.train import EXTRA, OPTIMISERS, OWNED, SCHEDULES, LoraSpec, TrainSpec
from harness.run.plugins import load as plugin
from harness.train.checks import check_settings
from harness.train.context import TrainContext
from harness.train.reward_model import RewardSettings
from harness.train.settings import arguments
from sail import SAILConfig

SMALL: dict[str, Any] = {"batch_size": 4, "lora": LoraSpec(r=4, alpha=8, layers=1)}
STEPS = Budget("b", "steps", 6)


def rates(steps: int, train: TrainSpec, warmup: int) -> list[float]:
    """The rates of the first steps by transformers' own scheduler."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(train.lr_scheduler, optimiser, warmup, steps, train.extra.get("lr_scheduler_kwargs"))
    values = []
    for _ in range(steps):
        values.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return values


def logged(given: TrainContext, method: Method) -> list[float]:
    """The rate of each step as a share of the learning rate, from the training log. A log has the rate of the step that
    it is of."""
    method.train(given)
    return [row["learning_rate"] / given.learning_rate for row in given.log]


@pytest.mark.parametrize(
    ("settings", "warmup"),
    [
        ({"lr_scheduler": "cosine", "warmup": 2}, 2),
        ({"lr_scheduler": "linear", "warmup": 0.3}, 2),
        ({"lr_scheduler": "cosine_with_min_lr", "extra": {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}}, 0),
        ({"lr_scheduler": "constant_with_warmup", "warmup": 3}, 3),
    ],
    ids=lambda value: value["lr_scheduler"] if isinstance(value, dict) else "",
)
def test_the_rate_follows_transformers(settings: dict[str, Any], warmup: int, tiny_dir: Path, tmp_path: Path) -> None:
    train = TrainSpec(**SMALL, **settings)
    seen = logged(context(tiny_dir, tmp_path, train, STEPS), plugin("methods", "dpo")())
    assert seen == pytest.approx(rates(6, train, warmup), abs=1e-6)


class KilledError(Exception):
    """Stands for kill -9: nothing after it is run."""


def killed_at(step: int) -> Any:
    def on_step(done: int) -> None:
        if done == step:
            raise KilledError

    return on_step


def test_a_killed_run_goes_on_with_the_schedule_that_it_began_with(tiny_dir: Path, tmp_path: Path) -> None:
    """Under a budget that fixes no steps the schedule is as long as was predicted at the start, whatever is predicted
    later."""
    train = TrainSpec(**SMALL, lr_scheduler="linear", warmup=0.25, checkpoints=8)
    probe = context(tiny_dir, tmp_path / "probe", train, Budget("b", "steps", 1))
    plugin("methods", "dpo")().train(probe)
    budget = Budget("b", "train_tokens", 8 * probe.ledger.spent("train_tokens"))
    first = context(tiny_dir, tmp_path / "run", train, budget, predicted_steps=6, on_step=killed_at(4))
    with pytest.raises(KilledError):
        plugin("methods", "dpo")().train(first)
    second = context(tiny_dir, tmp_path / "run", train, budget, predicted_steps=40)
    seen = logged(second, plugin("methods", "dpo")())
    assert len(seen) > 6, "longer than predicted"
    assert seen[:6] == pytest.approx(rates(6, train, 2), abs=1e-6)
    assert seen[6:] == pytest.approx([0.0] * (len(seen) - 6)), "beyond its end the last rate stays"
    whole = context(tiny_dir, tmp_path / "whole", train, budget, predicted_steps=6)
    assert logged(whole, plugin("methods", "dpo")()) == pytest.approx(seen)
    assert list((tmp_path / "whole").rglob("checkpoint-*"))
    assert not list((tmp_path / "whole").rglob("README.md")), "nobody reads a model card of a checkpoint"


def test_a_schedule_without_a_length_is_refused(tiny_dir: Path, tmp_path: Path) -> None:
    budget = Budget("b", "seconds", 60)
    for settings in ({"lr_scheduler": "cosine"}, {"lr_scheduler": "constant_with_warmup", "warmup": 0.1}):
        with pytest.raises(UserError, match=r"needs to know how many steps .* 'b' \(seconds\) does not tell: match an"):
            plugin("methods", "dpo")().train(context(tiny_dir, tmp_path, TrainSpec(**SMALL, **settings), budget))


def test_each_round_has_a_schedule_of_its_own(tiny_dir: Path, tmp_path: Path) -> None:
    train = TrainSpec(**SMALL, lr_scheduler="linear")
    given = context(tiny_dir, tmp_path, train, STEPS)
    assert logged(given, plugin("methods", "spin")()) == pytest.approx(2 * rates(3, train, 0), abs=1e-6)


# What reaches the configuration


def test_every_setting_is_in_the_configuration(tiny_dir: Path, tmp_path: Path) -> None:
    """The published settings of SAIL's preference stage: RMSprop, linear with 150 steps of warm-up, all weights; and
    those that differ from defaults."""
    train = TrainSpec(
        **{**SMALL, "lora": None}, optim="rmsprop", lr_scheduler="linear", warmup=150, weight_decay=0.01,
        gradient_checkpointing=True, gradient_accumulation=2,
        extra={"optim_args": "alpha=0.9", "disable_dropout": False},
    )  # fmt: skip
    given = context(tiny_dir, tmp_path, train, Budget("b", "steps", 600), precision="bf16-mixed")
    for config in (DPOConfig, SAILConfig):
        with pytest.warns(UserWarning) if config is SAILConfig else nothing():
            args = config(**arguments(given))
        assert (args.optim, args.lr_scheduler_type, args.warmup_steps) == ("rmsprop", "linear", 150)
        assert (args.weight_decay, args.gradient_checkpointing, args.bf16) == (0.01, True, True)
        assert (args.optim_args, args.disable_dropout, args.max_steps) == ("alpha=0.9", False, 600)
        assert args.gradient_accumulation_steps == 2
    assert check_settings(train, "bf16-mixed", tiny_dir) is None
    assert not arguments(context(tiny_dir, tmp_path, TrainSpec(**SMALL), STEPS))["gradient_checkpointing"]  # on a CPU


def nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize("precision", ["float32", "bf16-mixed"])
def test_the_optimiser_is_the_one_that_is_named(precision: Any, tiny_dir: Path, tmp_path: Path) -> None:
    """One step of SGD moves the weights by the rate times the clipped gradient, whose norm is 1: no Adam does."""
    from safetensors.torch import load_file

    train = TrainSpec(batch_size=4, lora=None, optim="sgd", max_grad_norm=1e-3, checkpoints=1)
    given = context(tiny_dir, tmp_path, train, Budget("b", "steps", 1), precision=precision, learning_rate=10.0)
    folder = plugin("methods", "simpo")().train(given)
    before, after = load_file(tiny_dir / "model.safetensors"), load_file(folder / "model.safetensors")
    moved = sum(float((after[key] - weight).square().sum()) for key, weight in before.items()) ** 0.5
    assert moved == pytest.approx(10 * 1e-3, rel=1e-3)


# What is refused


def refusal(**settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        TrainSpec(**settings)
    return str(caught.value.errors()[0]["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"optim": "adamw_tourch"}, "Unknown optimiser 'adamw_tourch': did you mean 'adamw_torch'?"),
        ({"optim": "galore_adamw_layerwise"}, "Unknown optimiser 'galore_adamw_layerwise'"),
        ({"lr_scheduler": "cosin"}, "Unknown schedule 'cosin': did you mean 'cosine'?"),
        ({"lr_scheduler": "reduce_lr_on_plateau"}, "Unknown schedule 'reduce_lr_on_plateau'"),
        ({"warmup": 1.5}, "1.5 is neither a number of steps nor a share below 1"),
        ({"warmup": 10}, "warmup: 10 has no effect with lr_scheduler: constant: set constant_with_warmup"),
        ({"extra": {"adam_beta3": 0.9}}, "Unknown argument 'adam_beta3': did you mean 'adam_beta"),
        ({"extra": {"learning_rate": 1.0}}, "learning_rate is not set here: a comparison sets it by tune.learning_"),
        ({"extra": {"report_to": "wandb"}}, "report_to is not set here: a comparison sets it by report_to, at the"),
        ({"extra": {"deepspeed": "z.json"}}, "deepspeed is not set here: train.processes says on how many GPUs a run"),
        ({"extra": {"fsdp": "full_shard"}}, "fsdp is not set here: train.processes says on how many GPUs"),
        ({"extra": {"output_dir": "x"}}, "output_dir is not set here: a comparison sets it by --store"),
        ({"extra": {"eval_steps": 5}}, "eval_steps is not set here: nothing is evaluated in training"),
        ({"extra": {"optim_target_modules": "x"}}, "optim_target_modules is not set here: it is not supported"),
        ({"extra": {"lr_scheduler_kwargs": {}}}, "extra.lr_scheduler_kwargs has no effect with lr_scheduler: constant"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(settings: dict[str, Any], sentence: str) -> None:
    assert refusal(**settings).startswith(sentence)


@pytest.mark.parametrize("name", sorted({f.name for f in dataclasses.fields(DPOConfig)} - set(EXTRA)))
def test_no_other_argument_of_dpoconfig_gets_through(name: str) -> None:
    """Losses, references, the data, evaluation, logging, saving: a trainer would ignore it, or the comparison break."""
    sentence = refusal(extra={name: 1})
    assert name in sentence and "Unknown" not in sentence


def test_the_tables_name_what_there_is() -> None:
    names = {f.name for f in dataclasses.fields(DPOConfig)}
    assert set(EXTRA) <= names
    assert set(OWNED) - {"warmup_ratio"} <= names  # which transformers 5 took out
    assert not set(EXTRA) & set(OWNED)
    assert set(OPTIMISERS) <= {kind.value for kind in OptimizerNames}
    assert set(SCHEDULES) <= {kind.value for kind in SchedulerType}
    assert TrainSpec().optim == DPOConfig(output_dir="x", bf16=False).optim, "transformers' own default"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"extra": {"adam_beta1": "much"}}, r"train\.extra\.adam_beta1: 'much' is no value for it"),
        ({"extra": {"optim_args": "alpha=0.9,no_such=1"}, "optim": "rmsprop"}, "optim_args: no_such=1 has no effect"),
        ({"extra": {"adam_beta1": 0.8}, "optim": "rmsprop"}, r"train\.extra\.adam_beta1 has no effect"),
        ({"extra": {"optim_args": "alpha=a"}, "optim": "rmsprop"}, r"train\.optim: rmsprop cannot be used here"),
        ({"extra": {"optim_args": "weight_decay=0.1"}, "optim": "sgd"}, r"no effect here: set train\.weight_decay"),
        ({"extra": {"optim_args": 3}, "optim": "sgd"}, r"train\.extra\.optim_args: 3 is no value"),
        ({"extra": {"disable_dropout": "maybe"}}, "disable_dropout: 'maybe' is no value"),
        ({"extra": {"dataloader_persistent_workers": True}}, r"train\.extra: its values .*num_workers > 0"),
        ({"extra": {"dataloader_num_workers": -1}}, r"train\.extra: its values .*num_workers"),
        ({"extra": {"pad_to_multiple_of": 0}}, r"train\.extra: its values cannot be used"),
        ({"extra": {"pad_to_multiple_of": -3}}, r"train\.extra: its values cannot be used"),
        ({"extra": {"gradient_checkpointing_kwargs": {"foo": 1}}}, r"train\.extra: its values .*foo"),
        (
            {"extra": {"gradient_checkpointing_kwargs": {"use_reentrant": True}}, "gradient_checkpointing": False},
            "gradient_checkpointing_kwargs has no effect",
        ),
        ({"extra": {"router_aux_loss_coef": 0.1}}, "router_aux_loss_coef has no effect, since .* no mixture"),
        ({"lr_scheduler": "warmup_stable_decay"}, r"train\.lr_scheduler: warmup_stable_decay cannot be used here"),
        ({"lr_scheduler": "cosine", "extra": {"lr_scheduler_kwargs": {"cycles": 2}}}, r"cycles.*lr_scheduler_kwargs"),
    ],
)  # fmt: skip
def test_values_are_tried_before_any_work(settings: dict[str, Any], sentence: str, tiny_dir: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        check_settings(TrainSpec(**settings), "float32", tiny_dir)


def test_offloading_needs_a_gpu(tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sail.config.has_accelerator", lambda: False)
    with pytest.raises(UserError, match=r"activation_offloading needs a GPU, and there is none here"):
        check_settings(TrainSpec(extra={"activation_offloading": True}), "float32", tiny_dir)


def test_values_reach_the_configuration_as_numbers(tiny_dir: Path, tmp_path: Path) -> None:
    """YAML reads a number without a point, such as 1e-8, as a text, and a text is true."""
    train = TrainSpec(**SMALL, extra={"adam_epsilon": "1e-7", "disable_dropout": "no"})
    check_settings(train, "float32", tiny_dir)
    args = DPOConfig(**arguments(context(tiny_dir, tmp_path, train, STEPS)))
    assert (args.adam_epsilon, args.disable_dropout) == (1e-7, False)


def test_a_package_that_is_missing_is_named(tiny_dir: Path) -> None:
    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is here")
    with pytest.raises(UserError, match=r"train\.optim: paged_adamw_8bit cannot be used here .*install what it needs"):
        check_settings(TrainSpec(optim="paged_adamw_8bit"), "float32", tiny_dir)


def test_a_reward_model_refuses_what_it_does_not_have(tiny_dir: Path) -> None:
    fields = {f.name for f in dataclasses.fields(RewardConfig)}
    assert set(EXTRA) - fields == {"router_aux_loss_coef"}
    given = RewardSettings(1, 1e-3, TrainSpec(warmup=0.5, lr_scheduler="linear", lora=None), "bf16")
    assert given.computed_in == "bf16-mixed"
    used = given.used()
    assert (used["batch_size"], used["warmup"], used["lr_scheduler"], used["extra"]) == (8, 0.5, "linear", {})
    unused = {"beta", "max_length", "lora", "checkpoints", "processes", "sharding"}
    assert set(TrainSpec.model_fields) - set(used) == unused
    with pytest.raises(UserError, match="train.processes is 2, and a reward model trains in one process"):
        RewardSettings(1, 1e-3, TrainSpec(processes=2)).check(tiny_dir)
    RewardSettings(1, 1e-3, TrainSpec(extra={"adam_beta2": 0.95})).check(tiny_dir)
    with pytest.raises(UserError, match="router_aux_loss_coef has no effect on a reward model: leave it out"):
        RewardSettings(1, 1e-3, TrainSpec(extra={"router_aux_loss_coef": 0.1})).check(tiny_dir)
