"""Schedules that do not fit the length of the training: refused where the budget fixes it, else said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.command import tiny_recipe
from kit.contexts import context

from harness.budget.budget import Budget
from harness.errors import UserError
from harness.recipe.load import load_recipe
from harness.recipe.recipe import Recipe
from harness.recipe.train import LoraSpec, TrainSpec
from harness.run.comparison import resolve
from harness.run.plugins import load as plugin
from harness.store.stages import Store
from harness.train.checks import Lengths, check_settings
from harness.train.reward_model import RewardSettings

WSD: dict[str, Any] = {"lr_scheduler": "warmup_stable_decay", "extra": {"lr_scheduler_kwargs": {"num_decay_steps": 4}}}


def planned(tmp_path: Path, warmup: float, budget: dict[str, Any], *methods: str, **options: Any) -> None:
    """Resolve `tiny` with a warm-up and pairs of a step: 4."""
    tiny = tiny_recipe()
    train = tiny["train"] | {"lr_scheduler": "linear", "warmup": warmup, "batch_size": 4, "gradient_accumulation": 1}
    changes = {"train": train, "budgets": {"b": budget}, "budget": "b", "method_options": options}
    changes |= {"methods": list(methods or ["dpo"])}
    resolve(Recipe.model_validate(tiny | changes), "b", changes["methods"], [], Store(tmp_path))


def test_a_warm_up_longer_than_the_run_is_refused_by_the_plan(tmp_path: Path) -> None:
    pairs = {"axis": "pairs", "limit": 16}
    planned(tmp_path, 3, pairs)
    with pytest.raises(UserError, match=r"train\.warmup: 4 would not end .* 'b' \(16 pairs\) buys 4 steps: lower it"):
        planned(tmp_path, 4, pairs)
    with pytest.raises(UserError, match=r"train\.warmup: 9 .* buys 8 steps"):
        planned(tmp_path, 9, {"axis": "steps", "limit": 8})
    with pytest.raises(UserError, match=r"train\.warmup: 0\.9 .* buys 4 steps"):
        planned(tmp_path, 0.9, pairs)
    planned(tmp_path, 4, pairs, "start")  # trains nothing
    planned(tmp_path, 1000, {"axis": "flops", "limit": 1e12})  # only predicted


@pytest.mark.parametrize("method", ["spin", "iterative-dpo"])
def test_the_warm_up_of_a_round_ends_in_it(method: str, tmp_path: Path) -> None:
    steps = {"axis": "steps", "limit": 9}
    planned(tmp_path, 3, steps, method)
    with pytest.raises(UserError, match=rf"buys 4 steps in a round of {method} \(2 rounds\)"):
        planned(tmp_path, 4, steps, method)
    with pytest.raises(UserError, match=rf"buys 3 steps in a round of {method} \(3 rounds\)"):
        planned(tmp_path, 3, steps, method, **{method: {"rounds": 3}})


@pytest.mark.parametrize("name", ["qwen-0.5b-safe", "zephyr-7b-ultrafeedback", "llama3-8b-ultrafeedback"])
def test_the_published_warm_up_fits_its_budgets(name: str) -> None:
    recipe = load_recipe(name)
    for key, spec in recipe.budgets.items():
        steps = Budget.of(key, spec).steps(recipe.train.batch_size * recipe.train.gradient_accumulation)
        assert steps is not None and recipe.train.warmup_steps(steps) == 150 < steps


def refused(tiny_dir: Path, train: dict[str, Any], rate: float, steps: int) -> str:
    with pytest.raises(UserError) as caught:
        check_settings(TrainSpec(**train), "float32", tiny_dir, rates=[rate], lengths=Lengths(fixed=[steps]))
    return str(caught.value)


def test_schedules_are_tried_with_their_length_and_rate(tiny_dir: Path) -> None:
    """A decay of 4 steps after 2 of warm-up takes at least 6; in 5 it begins at
    (1 + cos(pi / 4)) / 2. An end above the learning rate is none."""
    spec = TrainSpec(**WSD, warmup=2)
    check_settings(spec, "float32", tiny_dir, lengths=Lengths(fixed=[6, 1000]))
    check_settings(spec, "float32", tiny_dir, lengths=Lengths(predicted=[5]))  # said in training
    assert "highest rate of its 5 steps is 0.854 times" in refused(tiny_dir, WSD | {"warmup": 2}, 1.0, 5)
    polynomial = {"lr_scheduler": "polynomial"}
    check_settings(TrainSpec(**polynomial), "float32", tiny_dir, rates=[1e-6], lengths=Lengths(fixed=[9]))
    assert "lr_end (1e-07) must be smaller" in refused(tiny_dir, polynomial, 1e-8, 9)
    above = {"lr_scheduler": "cosine_with_min_lr", "extra": {"lr_scheduler_kwargs": {"min_lr": 1e-5}}}
    check_settings(TrainSpec(**above), "float32", tiny_dir, rates=[1e-4], lengths=Lengths(fixed=[100]))
    assert "times the learning rate" in refused(tiny_dir, above, 1e-6, 100)


@pytest.mark.parametrize("scheduler", ["linear", "constant_with_warmup"])
def test_a_warm_up_longer_than_predicted_is_said(scheduler: str, tiny_dir: Path, tmp_path: Path) -> None:
    train = TrainSpec(batch_size=4, lora=LoraSpec(r=4, alpha=8, layers=1), lr_scheduler=scheduler, warmup=50)
    for steps, lines in ((50, 1), (51, 0)):
        lines_said: list[str] = []
        budget = Budget("b", "flops", 1.0)
        given = context(tiny_dir, tmp_path / f"{steps}", train, budget, predicted_steps=steps, say=lines_said.append)
        with pytest.raises(UserError, match="cannot buy one step"):  # it is said before the first
            plugin("methods", "dpo")().train(given)
        assert len(lines_said) == lines
        assert not lines or "train.warmup: 50 will not end: this training is expected to take 50 steps" in lines_said[0]


def test_a_reward_model_counts_its_steps_by_pairs_and_epochs(tiny_dir: Path) -> None:
    """9 pairs, 2 a batch, 2 batches a step: 3 steps an epoch, as transformers counts them."""
    train = TrainSpec(batch_size=2, gradient_accumulation=2, lr_scheduler="linear", warmup=6)
    RewardSettings(3, 1e-3, train).check_length(tiny_dir, 9)
    with pytest.raises(UserError, match=r"train\.warmup: 6 would not end .* takes 6 steps"):
        RewardSettings(2, 1e-3, train).check_length(tiny_dir, 9)
