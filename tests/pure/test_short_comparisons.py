"""Which comparisons are taken for short: those whose predicted seconds leave nothing out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.command import tiny_recipe

from harness.recipe.recipe import Recipe
from harness.run.plan import make_runs
from harness.run.target import ThisMachine
from harness.store.settings import Settings, using
from harness.store.stages import Store

SERVER = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize(
    ("changes", "benchmarks", "whole"),
    [
        ({}, ["preference"], True),
        ({}, ["mmlu", "mt_bench"], True),
        ({"judge": SERVER}, ["mt_bench"], True),  # it has the local judge
        ({"oracle": {"name": "llm_judge", "options": SERVER}}, ["preference"], False),
        ({"endpoints": {"far": SERVER}, "methods": ["start", "dpo", "far"]}, ["preference"], False),
        ({"oracle": {"name": "reward_model", "options": {"model": "org/reward"}}}, ["preference"], False),
    ],
)
def test_what_the_seconds_leave_out(
    changes: dict[str, Any], benchmarks: list[str], whole: bool, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(tiny_recipe(**changes))
    with using(Settings()):
        runs = make_runs(recipe, recipe.budget, list(recipe.methods), 1, benchmarks, Store(tmp_path))
        machine = ThisMachine(runs)
        assert machine.tells_all(2) == whole
        assert machine.seconds(2) is not None
