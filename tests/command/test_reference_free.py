"""Methods whose loss reads no reference: the ledger holds none, and no second model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.command import tiny_recipe

from harness.budget.flops import shape_of_config
from harness.budget.forecast import Corrections
from harness.budget.ledger import Ledger
from harness.recipe.load import load_recipe
from harness.recipe.recipe import Recipe
from harness.run.plan import RunPlan, make_runs
from harness.run.plugins import OURS, load, plugins
from harness.run.run import Run
from harness.run.spending import KNOWN_CONFIGS, expect
from harness.store.stages import Store

pytestmark = pytest.mark.slow

FREE = {"sft", "simpo", "orpo", "sail-simpo"}


def full_tuning(folder: Path, **changes: Any) -> Recipe:
    """The tiny recipe without an adapter, so that a reference would be a second model."""
    tiny = tiny_recipe()
    more = {"train": tiny["train"] | {"lora": None}, "tune": {"learning_rates": [1e-3]}, "name": "mine"}
    changes = {k: v for k, v in (tiny | more | changes).items() if v is not None}
    (folder / "mine.yaml").write_text(yaml.safe_dump(changes))
    return load_recipe(str(folder / "mine.yaml"))


def on_imported_pairs(folder: Path) -> Recipe:
    for name, count in (("train", 12), ("test", 12)):
        rows = [{"prompt": f"{name} {i}?", "chosen": f"Yes, {i}.", "rejected": f"No {i}."} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"task": "preferences", "train": "train.jsonl", "test": "test.jsonl", "tune_prompts": 4, "eval_prompts": 6}
    benchmarks = {"mt_bench": {"max_new_tokens": 4, "limit": 2}}
    data |= {"heldout_prompts": 0, "max_new_tokens": 6}
    return full_tuning(folder, data=data, benchmarks=benchmarks, methods=["dpo"], oracle=None)


def trained(plan: RunPlan, monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, int]:
    """The ledger of a training run, and how many models it had in memory to train with."""
    loads = []
    run = Run(plan, lambda kind, value: None)
    run.pairs()

    def counting(*given: Any, **more: Any) -> Any:
        loads.append(given)
        return load_model(*given, **more)

    from harness.answer.load import load_model

    with monkeypatch.context() as patch:
        patch.setattr("harness.answer.load.load_model", counting)
        run.train(plan.trials[0].train)
    return Ledger.load(run.store.manifest(plan.trials[0].train.stage)["ledger"]), len(loads)


def plans(recipe: Recipe, store: Path, methods: list[str]) -> list[RunPlan]:
    return make_runs(recipe, recipe.budget, methods, 1, list(recipe.benchmarks), Store(store))


def test_imported_pairs_cost_them_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DPO pays for the log-probabilities that are stored with the pairs, and as predicted; nobody runs a reference."""
    shape = shape_of_config(KNOWN_CONFIGS["smollm2"], None, 0)
    recipe, methods = on_imported_pairs(tmp_path), ["dpo", "sft", "simpo", "orpo"]
    for plan in plans(recipe, tmp_path / "elsewhere", methods):  # before any pair is there
        guess = expect(plan.comparison, plan.method, Corrections(), shape=shape)
        assert (guess.pair["flops"] > 0) is (plan.name not in FREE)
    for plan in plans(recipe, tmp_path / "store", methods):
        ledger, models = trained(plan, monkeypatch)
        expected = expect(plan.comparison, plan.method, Corrections()).pair["flops"]
        pays = plan.name not in FREE
        assert ledger.get("data", "pairs") > 0
        assert (ledger.flops("data") > 0, expected > 0) == (pays, pays), plan.name
        assert ledger.flops("reference") == 0
        assert models == 1, plan.name


def test_sail_with_simpos_loss_runs_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside SAIL-PR, which refers to the start policy for each sampled pair, as both are predicted to."""
    recipe = full_tuning(tmp_path)
    for plan in plans(recipe, tmp_path / "store", ["sail-pr", "sail-simpo", "sail-dp"]):
        ledger, models = trained(plan, monkeypatch)
        refers = plan.name == "sail-pr"
        assert (ledger.flops("reference") > 0, plan.method.spending().reference > 0) == (refers, refers), plan.name
        assert (ledger.flops("generate") > 0) is (plan.name != "sail-dp")
        assert models == 1 + refers, plan.name


def test_who_reads_none() -> None:
    methods = {name: load("methods", name) for name, plugin in plugins("methods").items() if plugin.origin == OURS}
    assert {name for name, method in methods.items() if not method.reads_reference} == FREE
