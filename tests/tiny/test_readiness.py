"""What a run refuses before any work, by the positions of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.command import tiny_recipe

from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.run import run
from harness.run.job import SHARED
from harness.run.plan import make_run
from harness.run.readiness import check_before_work
from harness.run.run import Run
from harness.store.stages import Store

POSITIONS = 4096
"""Of the model `tiny`."""


def check(store: Store, longest: int, asked: int) -> None:
    """Training answers of at most ``longest`` tokens, and such of at most ``asked`` to MT-Bench."""
    tiny: dict[str, Any] = tiny_recipe(benchmarks={"mt_bench": {"max_new_tokens": asked}})
    changes = {"data": tiny["data"] | {"max_new_tokens": longest}}
    plan = make_run(Recipe.model_validate(tiny | changes), tiny["budget"], "start", 0, ["mt_bench"], store)
    check_before_work(Run(plan, lambda kind, value: None).resources, plan)


def test_answers_that_the_model_cannot_hold(tmp_path: Path) -> None:
    store = Store(tmp_path)
    check(store, POSITIONS - 1, 16)
    with pytest.raises(UserError, match=r"data.max_new_tokens is 4,096, but the model holds 4,096 tokens"):
        check(store, POSITIONS, 16)
    with pytest.raises(UserError, match=r"mt_bench asks for answers of up to 4,096 tokens .*: lower benchmarks"):
        check(store, 8, POSITIONS)
    with pytest.raises(UserError) as both:
        check(store, POSITIONS, POSITIONS)
    assert [problem.what for problem in both.value.problems] == ["data", "benchmark mt_bench"]


def test_a_run_that_another_has_checked_for_does_not_check_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, events = tiny_recipe(), []
    plan = make_run(Recipe.model_validate(tiny), tiny["budget"], "dpo", 0, [], Store(tmp_path))
    Run(plan, lambda kind, value: events.append(kind)).work(SHARED)
    assert events.count("checked") == 1
    monkeypatch.setattr(run, "check_before_work", None)
    Run(plan, lambda kind, value: events.append(kind)).work(SHARED, checked=True)
    assert events.count("checked") == 1
    with pytest.raises(TypeError):  # the trials are open, so that it would check
        Run(plan, lambda kind, value: None).work(SHARED)
