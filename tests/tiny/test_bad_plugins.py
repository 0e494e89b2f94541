"""Plugins that return what they should not, in the work of a run: nothing is published, lost or measured of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from kit.command import SMALL, tiny_recipe
from kit.plugins import install

from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.run.plan import RunPlan, make_runs, resolved
from harness.run.publish import assemble
from harness.run.run import Run
from harness.store.integrity import sha256_of
from harness.store.stages import Store

METHODS = {"thief": "Thief", "lender": "Borrower", "nothing": "Nothing"}
ORACLES = {"short": "Short", "nones": "Nones"}
BENCHMARKS = {"empty": "Empty", "nameless": "Nameless"}


def entries(classes: dict[str, str]) -> dict[str, str]:
    return {name: f"plugin_parts:{cls}" for name, cls in classes.items()}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    source = (ROOT / "tests" / "kit" / "plugin_parts.py.txt").read_text()
    kinds = {"oracles": entries(ORACLES), "benchmarks": entries(BENCHMARKS)}
    folder = install(tmp_path_factory.mktemp("site"), "bad-parts", entries(METHODS), kinds, plugin_parts=source)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def plan_of(store: Store, method: str, benchmarks: Sequence[str] = ("preference",), **changes: Any) -> RunPlan:
    chosen = {name: {"max_new_tokens": 8} if name == "preference" else {} for name in benchmarks}
    recipe = Recipe.model_validate(tiny_recipe(**SMALL | {"benchmarks": chosen} | changes))
    return make_runs(recipe, recipe.budget, [method], 1, benchmarks, store)[0]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def work(plan: RunPlan) -> RunPlan:
    Run(plan, lambda kind, value: None).work()
    return resolved(plan)


def test_the_start_policy_and_the_users_folder_are_copied(
    store: Store, tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay where they are, as they are; the trained policy is the same, and can be scored."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in tiny_dir.iterdir():
        os.link(path, mine / path.name)
    monkeypatch.setenv("USERS_FOLDER", str(mine))
    for method in ("lender", "thief"):  # the first one builds the start policy
        plan = plan_of(store, method)
        source = store.path(plan.comparison.facts.start.stage) if method == "thief" else mine
        before = contents(source)
        done = work(plan)
        assert done.policy is not None
        policy = store.path(done.policy.stage) / "policy"
        assert contents(source) == before
        assert sha256_of(policy / "model.safetensors") == sha256_of(source / "model.safetensors")
        assert store.done(plan.comparison.facts.start.stage)
        (metric,) = [m for m in assemble(done).benchmarks[0].metrics if m.name == "kl"]
        assert metric.value == pytest.approx(0, abs=1e-4), "it is the start policy"


def test_an_empty_folder_is_a_failed_run_at_each_attempt(store: Store) -> None:
    """It is no finished stage, which nothing would ever build again."""
    plan = plan_of(store, "nothing")
    for _ in range(2):
        with pytest.raises(UserError, match=r"Method 'nothing' returned .*policy, which is no policy: it is empty"):
            work(plan)
        assert not store.done(plan.trials[0].train.stage)


@pytest.mark.parametrize(("oracle", "words"), [("short", "numbers, and score\\(\\) returned"), ("nones", "None as")])
def test_an_oracle_that_answers_no_numbers_labels_nothing(oracle: str, words: str, store: Store) -> None:
    plan = plan_of(store, "start", oracle=oracle)
    with pytest.raises(UserError, match=f"The oracle '{oracle}' was asked for .*{words}"):
        work(plan)
    assert not store.done(plan.comparison.facts.pairs.stage)


def test_a_benchmark_without_items_is_no_score_of_nothing(store: Store) -> None:
    plan = plan_of(store, "start", ["empty"])
    with pytest.raises(UserError, match=r"The benchmark empty cannot be scored: after answer\(\), there are no items"):
        work(plan)
    assert resolved(plan).todo


def test_columns_without_ids_are_a_sentence_when_published(store: Store) -> None:
    done = work(plan_of(store, "start", ["nameless"]))
    with pytest.raises(UserError, match="The benchmark nameless has no score: the group 'items' has no column 'id'"):
        assemble(done)
