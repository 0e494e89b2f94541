"""Artifact by damage: the same command ends in the same result, or an earlier state is taken. Never another number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.command import SMALL, tiny_recipe
from kit.damage import DAMAGES, damage, notices
from safetensors.torch import load_file

from harness.recipe.recipe import Recipe
from harness.run.plan import RunPlan, make_runs, resolved
from harness.run.publish import assemble
from harness.run.run import Run
from harness.run.training import answer_tuning_prompts
from harness.store.stages import Stage, Store
from harness.store.storage import QUARANTINE

METHODS = ("start", "dpo")


def plans(root: Path, *methods: str) -> list[RunPlan]:
    recipe = Recipe.model_validate(tiny_recipe(**SMALL))
    return make_runs(recipe, recipe.budget, methods, 1, ["preference"], Store(root))


def work(root: Path, *methods: str) -> None:
    """What ``compare`` does in its run processes: whatever is open."""
    for plan in plans(root, *methods):
        if plan.todo:
            Run(plan, lambda kind, value: None).work()


def results(root: Path, *methods: str) -> list[dict[str, Any]]:
    """Result files, without what a clock decides."""
    published = []
    for plan in plans(root, *methods):
        value = assemble(resolved(plan)).model_dump(mode="json")
        for row in value["train_log"]:
            for name in [n for n in row if n.startswith("seconds/")]:
                row.pop(name)
        published.append(value)
    return published


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a finished comparison. Tests copy it."""
    root = tmp_path_factory.mktemp("finished") / "store"
    work(root, *METHODS)
    return root


@pytest.fixture(scope="module")
def expected(finished: Path) -> list[dict[str, Any]]:
    return results(finished, *METHODS)


CHEAP = (
    "stages/judgments-*/rows.jsonl",
    "stages/answers-*/rows.jsonl",
    "stages/tune-*/scores.json",
    "stages/*/manifest.json",
)
LONG = (
    "stages/train-*/policy",
    "stages/train-*/policy/adapter_model.safetensors",
    "stages/train-*/policy/adapter_config.json",
    "stages/train-*/log.json",
    "stages/pairs-*/train.jsonl",
    "stages/pairs-*/counts.json",
    "stages/start-*/model.safetensors",
    "stages/start-*/config.json",
    "stages/start-*/tokenizer.json",
)
MADE_AGAIN = [
    *((name, how) for name in CHEAP for how in DAMAGES),
    *(
        pytest.param(name, how, marks=[] if (name, how) == (LONG[1], "flipped") else pytest.mark.nightly)
        for name in LONG
        for how in DAMAGES
        if how == "missing" or name != "stages/train-*/policy"
    ),
]


@pytest.mark.parametrize(("artifact", "how"), MADE_AGAIN)
def test_a_damaged_artifact_of_a_finished_comparison(
    finished: Path, expected: list[dict[str, Any]], tmp_path: Path, artifact: str, how: str
) -> None:
    """Even what the run spent stays, and the hash over it: making it again is no cost of a method."""
    root = Path(shutil.copytree(finished, tmp_path / "store", symlinks=True))
    damaged = sorted(root.glob(artifact))
    assert damaged
    for path in damaged:
        damage(path, how)
    with notices() as heard:
        work(root, *METHODS)
        assert results(root, *METHODS) == expected
    assert len(heard) >= len(damaged), heard
    assert (root / QUARANTINE).is_dir() != artifact.endswith("manifest.json"), "which has a copy"


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.nightly if how in ("missing", "empty") else []) for how in DAMAGES]
)
def test_a_damaged_row_cache_costs_computing_alone(
    finished: Path, expected: list[dict[str, Any]], tmp_path: Path, how: str
) -> None:
    """Its rows are the answers of the start policy and of the trained one, which both have to be asked again."""
    root = Path(shutil.copytree(finished, tmp_path / "store", symlinks=True))
    for path in root.glob("rows/*"):
        damage(path, how)
    for path in [*root.glob("stages/answers-*"), *root.glob("stages/judgments-*")]:
        damage(path / "rows.jsonl", "halved")
    with notices():
        work(root, *METHODS)
    for result, other in zip(results(root, *METHODS), expected, strict=True):
        for benchmark, same in zip(result["benchmarks"], other["benchmarks"], strict=True):
            for metric, equal in zip(benchmark["metrics"], same["metrics"], strict=True):
                assert metric["value"] == pytest.approx(equal["value"], rel=1e-6, abs=2e-6)
                assert metric["n_valid"] == equal["n_valid"]


class CutError(Exception):
    """The process dies."""


@pytest.fixture(scope="module")
def interrupted(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose training was cut off in its last step, with two checkpoints."""
    root = tmp_path_factory.mktemp("interrupted") / "store"
    for kind in ("start", "pairs"):
        (stage,) = finished.glob(f"stages/{kind}-*")
        shutil.copytree(stage, root / "stages" / stage.name)
    steps = []

    def emit(kind: str, value: Any) -> None:
        steps.extend([value] if kind == "at" else [])
        if len(steps) == 4:
            raise CutError

    (plan,) = plans(root, "dpo")
    with pytest.raises(CutError):
        Run(plan, emit).train(plan.trials[0].train)
    assert len(list(root.glob("work/train-*/checkpoints/checkpoint-*/ledger.json"))) == 2
    return root


CHECKPOINT = "checkpoint-3"
RESUMED = [
    (name, how)
    for name in ("optimizer.pt", "trainer_state.json", "adapter_model.safetensors", "ledger.json")
    for how in DAMAGES
]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        pytest.param(*case, marks=[] if case in (RESUMED[2], RESUMED[11], RESUMED[13]) else pytest.mark.nightly)
        for case in RESUMED
    ],
)
def test_a_damaged_checkpoint_of_an_interrupted_training(
    finished: Path, interrupted: Path, tmp_path: Path, name: str, how: str
) -> None:
    """It goes on from the one before, or the record comes back from its copy: the same policy, log and spending."""
    root = Path(shutil.copytree(interrupted, tmp_path / "store", symlinks=True))
    (checkpoint,) = root.glob(f"work/train-*/checkpoints/{CHECKPOINT}")
    damage(checkpoint / name, how)
    (plan,) = plans(root, "dpo")
    with notices() as heard:
        folder = Run(plan, lambda kind, value: None).train(plan.trials[0].train)
    assert len(heard) == 1 and name in heard[0]
    weights, whole = (load_file(path / "policy" / "adapter_model.safetensors") for path in (folder, _trained(finished)))
    assert all(torch.equal(weights[key], value) for key, value in whole.items())
    assert _spent(folder, root) == _spent(_trained(finished), finished)
    assert _log(folder) == _log(_trained(finished)), "the count of tokens goes on as well"


def test_a_trial_that_dies_before_its_manifest_is_charged_as_one_that_lives(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its own answers, which are kept, once; and once for the start policy's."""
    root = tmp_path / "store"
    for stage in (s for kind in ("start", "pairs", "train") for s in finished.glob(f"stages/{kind}-*")):
        shutil.copytree(stage, root / "stages" / stage.name)
    (plan,) = plans(root, "dpo")

    def score() -> None:
        run = Run(plan, lambda kind, value: None)
        answer_tuning_prompts(run.resources, run.prompts["tune"])
        run.tune(plan.trials[0])

    def die(*given: Any) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr("harness.store.stages.write_manifest", die)
        with pytest.raises(CutError):
            score()
    score()
    tune = plan.trials[0].tune.stage
    assert _phases(root, tune) == _phases(finished, tune)


def _trained(root: Path) -> Path:
    (folder,) = root.glob("stages/train-*")
    return folder


def _log(folder: Path) -> list[dict[str, float]]:
    import json

    rows = json.loads((folder / "log.json").read_text())
    return [{k: v for k, v in row.items() if not k.startswith("seconds/")} for row in rows]


def _spent(folder: Path, root: Path) -> dict[str, Any]:
    (plan,) = plans(root, "dpo")
    return _phases(root, plan.trials[0].train.stage)


def _phases(root: Path, stage: Stage) -> dict[str, Any]:
    phases: dict[str, Any] = Store(root).manifest(stage)["ledger"]["phases"]
    return {p: {q: v for q, v in row.items() if q != "seconds"} for p, row in phases.items() if p != "wall"}
