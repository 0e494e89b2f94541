"""The plan of a run as data: keys, what becomes known late, and JSON that another process can work from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import Recipe
from harness.run.job import Job
from harness.run.nodes import Node
from harness.run.plan import RunPlan, make_run, make_runs, resolved
from harness.store.json_files import write_json
from harness.store.settings import Settings, settings, using
from harness.store.stages import Stage, Store


def plans(root: Path, **changes: Any) -> list[RunPlan]:
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    recipe = Recipe.model_validate(tiny | changes)
    return make_runs(recipe, recipe.budget, recipe.methods, 2, list(recipe.benchmarks), Store(root))


def finish(store: Store, stage: Stage, **files: Any) -> None:
    """A finished stage with JSON files, as a run would leave it."""

    def build(work: Path) -> None:
        for name, value in files.items():
            write_json(work / f"{name}.json", value)

    store.get(stage, build)


def score_trials(plan: RunPlan, rewards: list[float], ratios: list[float]) -> RunPlan:
    for trial, reward, ratio in zip(plan.trials, rewards, ratios, strict=True):
        finish(plan.comparison.store, trial.tune.stage, scores={"gold_reward": reward, "perplexity_ratio": ratio})
    return resolved(plan)


def by_name(runs: list[RunPlan], name: str, seed: int = 0) -> RunPlan:
    return next(plan for plan in runs if (plan.name, plan.seed) == (name, seed))


def test_every_node_follows_those_that_it_needs(tmp_path: Path) -> None:
    for plan in plans(tmp_path):
        if plan.trials:
            plan = score_trials(plan, [0.5, 0.6], [1.0, 1.0])
        seen: set[str] = set()
        for node in plan.nodes:
            assert set(node.needs) <= seen, (plan.name, node.label)
            seen.add(node.key)
        assert {node.stage.kind for node in plan.nodes} >= {"start", "pairs", "answers", "judgments"}


def test_the_winner_is_known_late(tmp_path: Path) -> None:
    """The highest reward among eligible trials; a later seed trains the same point anew."""
    runs = plans(tmp_path)
    plan = by_name(runs, "dpo")
    assert plan.winner.point is None and plan.policy is None and not plan.evaluations
    assert plan.winner.needs == tuple(t.tune.key for t in plan.trials)
    assert "trial lr=0.001" in plan.todo and "preference" in plan.todo
    plan = score_trials(plan, [0.5, 0.9], [1.0, 99.0])
    assert plan.winner.point == plan.trials[0].point, "the other one has left the language"
    assert plan.policy == plan.trials[0].train
    later = resolved(by_name(runs, "dpo", 1))
    assert later.policy is not None and later.policy.key != plan.policy.key
    assert later.policy.stage.inputs | {"seed": 0} == plan.policy.stage.inputs
    assert "train" in later.todo and "train" not in plan.todo


def test_ties_go_to_the_lower_rate_and_diverged_trials_to_nobody(tmp_path: Path) -> None:
    plan = score_trials(by_name(plans(tmp_path), "dpo"), [0.5, 0.5], [1.0, 1.0])
    assert plan.winner.point is not None
    assert plan.winner.point.learning_rate == min(t.point.learning_rate for t in plan.trials)
    store = Store(tmp_path / "diverged")
    recipe = plan.comparison.recipe
    lost = make_run(recipe, recipe.budget, "dpo", 0, list(recipe.benchmarks), store)
    for trial in lost.trials:
        finish(store, trial.tune.stage, scores={"error": "the loss is nan"})
    lost = resolved(lost)
    assert len(lost.scores) == len(lost.trials) and lost.winner.point is None and lost.policy is None


def test_a_node_is_json(tmp_path: Path) -> None:
    for plan in plans(tmp_path):
        for node in plan.nodes:
            again = Node.load(json.loads(json.dumps(node.dump())))
            assert again == replace(node, settings=dict(node.settings))
            assert again.key == node.key


@pytest.mark.parametrize("name", ["dpo", "start", "sail-pr"])
def test_a_process_gets_the_same_plan_as_json(tmp_path: Path, name: str) -> None:
    plan = by_name(plans(tmp_path), name)
    with using(Settings(data_dir=str(tmp_path), plugins="")):
        job = Job.of(plan)
    again = Job(**json.loads(json.dumps(vars(job)))).plan()
    assert [node.key for node in again.nodes] == [node.key for node in plan.nodes]
    assert again.todo == plan.todo
    assert again.comparison.key == plan.comparison.key
    assert again.comparison.recipe.hash == plan.comparison.recipe.hash
    assert Settings.load(job.settings) == Settings(data_dir=str(tmp_path), plugins="")


@pytest.mark.parametrize("name", [*builtin_recipes()])
def test_recipes_survive_json(name: str) -> None:
    recipe = load_recipe(name)
    again = Recipe.model_validate(json.loads(json.dumps(recipe.model_dump(mode="json"))))
    if again.data.imported and recipe.data.imported:
        again.data._folder = recipe.data.folder  # a job hands it over beside the recipe
    assert again == recipe and again.hash == recipe.hash


def test_a_job_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    judge = {"model": "gpt", "base_url": "http://127.0.0.1:1"}
    assert "sk-secret" not in json.dumps(vars(Job.of(plans(tmp_path, judge=judge)[0])))


def test_settings_come_from_the_environment_until_others_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", "/data")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SAIL_BENCH_PLUGINS", raising=False)
    assert settings() == Settings.of({"SAIL_BENCH_DATA_DIR": "/data", "HF_HUB_OFFLINE": "on"} | _others())
    with using(Settings(data_dir="/other")):
        assert settings() == Settings(data_dir="/other")
        monkeypatch.setenv("SAIL_BENCH_DATA_DIR", "/third")
        assert settings().data_dir == "/other"
    assert settings().data_dir == "/third"


def _others() -> dict[str, str]:
    """What else this machine's environment may set."""
    import os

    return {name: os.environ[name] for name in ("SAIL_BENCH_HOME", "SAIL_BENCH_GITHUB") if name in os.environ}
