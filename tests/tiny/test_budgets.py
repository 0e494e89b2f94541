"""Budgets on every axis: what is matched is equal within a step, what a run spends is in its ledger, once."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.command import Cli, tiny_recipe, write_tiny

from harness.budget.budget import Budget
from harness.budget.calibration import Calibration
from harness.budget.forecast import Corrections
from harness.budget.ledger import AXES, Ledger
from harness.budget.spec import BudgetSpec, named_budgets
from harness.errors import UserError
from harness.recipe.load import builtin_recipes
from harness.recipe.recipe import Recipe, TuneSpec
from harness.recipe.search import Point, points
from harness.run.plan import make_run
from harness.run.plugins import OURS, load, plugins
from harness.run.run import Run
from harness.score.results import read_result
from harness.store.json_files import read_rows
from harness.store.stages import Store

TRAINED = [n for n, p in plugins("methods").items() if p.origin == OURS and load("methods", n).trains]
LIMITS = {"steps": 3, "pairs": 12, "train_tokens": 2500, "generated_tokens": 1100, "oracle_calls": 64, "flops": 1.5e10}
# On each axis a method that trains on stored pairs, one of SAIL's trainer and one in rounds.
STORED = ("dpo", "simpo", "sft", "kto", "orpo", "dpo-shuffled-labels")
SAIL = ("sail-dp", "sail-pr", "online-dpo", "sail-pp", "sail-simpo", "online-dpo")
ROUNDS = ("spin", "iterative-dpo", "spin", "iterative-dpo", "iterative-dpo", "spin")
COVERED = dict(zip(LIMITS, zip(STORED, SAIL, ROUNDS, strict=True), strict=True))


def budgeted(axis: str, limit: float, caps: dict[str, float] | None = None, **changes: Any) -> Recipe:
    """`tiny` with one budget and one learning rate; a policy is kept at the end alone, unless ``train`` says more."""
    tiny = tiny_recipe(tune={"learning_rates": [1e-3]}, budget="b")
    budget = {"axis": axis, "limit": limit, "caps": caps or {}}
    return Recipe.model_validate(
        tiny | {"budgets": {"b": budget}, "train": tiny["train"] | {"checkpoints": 1}} | changes
    )


@pytest.fixture
def store(finished_tiny: Path, tmp_path: Path) -> Store:
    """A store with the start policy and the pairs."""
    stages = finished_tiny / ".sail-bench" / "stages"
    for path in [*stages.glob("start-*"), *stages.glob("pairs-*")]:
        shutil.copytree(path, tmp_path / "store" / "stages" / path.name)
    return Store(tmp_path / "store")


def train(recipe: Recipe, method: str, store: Store) -> tuple[Ledger, list[float], Budget]:
    """The ledger of a training run, and what each of its steps spent on the matched axis."""
    plan = make_run(recipe, "b", method, 0, [], store)
    budget, spent = plan.comparison.budget, [0.0]
    run = Run(plan, lambda kind, value: spent.append(budget.spent(run.resources.ledger)) if kind == "at" else None)
    run.train(plan.trials[0].train)
    ledger = Ledger.load(store.manifest(plan.trials[0].train.stage)["ledger"])
    return ledger, [b - a for a, b in pairwise(spent)], budget


@pytest.mark.slow
@pytest.mark.parametrize("axis", LIMITS)
def test_every_method_ends_within_a_step_of_every_other(axis: str, store: Store) -> None:
    """Actual spending: at or beyond the limit, by less than one step (never more than exactly the limit where a step's
    size is known)."""
    ends, steps = {}, {}
    for method in COVERED[axis]:
        ledger, increments, budget = train(budgeted(axis, LIMITS[axis]), method, store)
        ends[method], steps[method] = budget.spent(ledger), max(increments)
        assert ends[method] == pytest.approx(sum(increments), abs=1)
        assert 0 <= ends[method] - budget.limit < steps[method], method
        assert budget.stopped_by(ledger) == axis
        if axis in ("steps", "pairs"):
            assert ends[method] == budget.limit, method
    assert max(ends.values()) - min(ends.values()) <= max(steps.values())


@pytest.mark.slow
def test_the_other_methods_take_a_step(store: Store) -> None:
    for method in sorted(set(TRAINED).difference(*COVERED.values())):
        ledger = train(budgeted("steps", 1), method, store)[0]
        assert (ledger.get("train", "steps"), ledger.get("train", "pairs")) == (1, 4), method


@pytest.mark.slow
def test_seconds_end_within_a_step(store: Store) -> None:
    """It ends at the first step boundary that reaches the limit. (The clock runs on while the policy is saved, so the
    final sum says nothing on a busy machine.)"""
    recipe = budgeted("seconds", 1.5)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"free": True})})
    ledger, increments, budget = train(recipe, "dpo", store)
    assert len(increments) > 1
    assert budget.spent(ledger) >= budget.limit
    assert sum(increments[:-1]) < budget.limit


@pytest.mark.slow
def test_stored_pairs_are_paid_at_first_use(store: Store) -> None:
    """DPO pays for each pair that it trained on, once; a method that samples its own pays for its own alone."""
    recipe = budgeted("pairs", 24)
    plan = make_run(recipe, "b", "dpo", 0, [], store)
    count = len(read_rows(store.path(plan.comparison.facts.pairs.stage) / "train.jsonl"))
    sampled = store.manifest(plan.comparison.facts.pairs.stage)["ledger"]["phases"]["data"]
    assert sampled["calls"] == 96  # 24 prompts x 4 answers, held-out prompts left out
    assert count < 24, "the budget goes over the pairs more than once"
    dpo = train(recipe, "dpo", store)[0]
    assert dpo.get("data", "pairs") == count == len(dpo.bought)
    assert dpo.spent("oracle_calls") == 96
    assert dpo.spent("generated_tokens") == sampled["generated"]
    assert dpo.spent("oracle_calls", free_data=True) == 0
    online = train(recipe, "online-dpo", store)[0]
    assert not online.bought
    assert online.spent("oracle_calls") == 2 * 24
    one = train(budgeted("pairs", 4), "sft", store)[0]
    assert (one.get("data", "pairs"), one.spent("oracle_calls")) == (4, pytest.approx(4 * 96 / count, abs=1))


@pytest.mark.slow
def test_free_pairs_count_towards_no_axis_but_are_in_the_ledger(store: Store) -> None:
    free = budgeted("flops", 1.5e10)
    free = free.model_copy(update={"data": free.data.model_copy(update={"free": True})})
    ledger, _, budget = train(free, "dpo", store)
    assert budget.spent(ledger) < ledger.spent("flops")
    assert ledger.flops("data") > 0
    paid = train(budgeted("flops", 1.5e10), "dpo", store)[0]
    assert paid.get("train", "steps") < ledger.get("train", "steps")


@pytest.mark.slow
def test_a_cap_ends_a_run_and_an_axis_that_stands_still_does(store: Store) -> None:
    capped, _, budget = train(budgeted("flops", 1e13, caps={"steps": 2}), "dpo", store)
    assert (capped.get("train", "steps"), budget.stopped_by(capped)) == (2, "steps")
    still, _, budget = train(budgeted("oracle_calls", 5000), "dpo", store)
    assert still.spent("oracle_calls") == 96
    assert budget.stopped_by(still) == ""
    assert still.get("train", "steps") <= 2 * (len(still.bought) // 4) + 2  # all pairs, then one pass in vain


@pytest.mark.slow
def test_a_budget_that_cannot_buy_a_step(store: Store) -> None:
    with pytest.raises(UserError, match=r"Budget 'b' \(1e\+06 flops\) cannot buy one step of 4 pairs, which costs"):
        train(budgeted("flops", 1e6), "dpo", store)
    with pytest.raises(UserError, match="cannot buy one step of 4 pairs"):
        make_run(budgeted("pairs", 3), "b", "dpo", 0, [], store)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "sail-pr", "iterative-dpo"])
def test_resumed_ledger_is_exact(method: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended in the middle of a step after its third, under a budget of operations: nothing counted twice or lost."""
    from harness.train.stopping import BudgetCallback

    recipe = budgeted("flops", 3.5e10, train=tiny_recipe()["train"])
    whole = train(recipe, method, Store(Path(shutil.copytree(store.root, store.root.parent / "whole"))))[0]
    assert whole.get("train", "steps") > 4
    plan = make_run(recipe, "b", method, 0, [], store)
    calls = 0
    original = BudgetCallback.on_substep_end

    def fails(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise ConnectionError("as if killed")
        original(self, *args, **kwargs)

    monkeypatch.setattr(BudgetCallback, "on_substep_end", fails)
    with pytest.raises(ConnectionError):
        Run(plan, lambda kind, value: None).train(plan.trials[0].train)
    monkeypatch.setattr(BudgetCallback, "on_substep_end", original)
    cut = train(recipe, method, store)[0]
    assert cut.bought == whole.bought
    for phase, row in whole.entries.items():
        for quantity, amount in row.items():
            if quantity != "seconds":
                assert cut.get(phase, quantity) == pytest.approx(amount, abs=1), (phase, quantity)


@pytest.mark.slow
def test_predictions_learn_from_the_first_run(store: Store) -> None:
    """The second run's operations are predicted to 5%; the first one's are predicted by the formulas alone."""
    from harness.run.spending import expect, spent_by
    from harness.store.environment import environment

    recipe = budgeted("pairs", 16)
    for method in ("dpo", "kto", "online-dpo"):
        plan = make_run(recipe, "b", method, 0, [], store)
        first = expect(plan.comparison, plan.method, Corrections())
        ledger = train(recipe, method, store)[0]
        measured = ledger.spent("flops")
        assert first.total(first.steps(plan.comparison.budget), "flops") == pytest.approx(measured, rel=0.25), method
        calibration = Calibration(store.root, environment())
        learned = calibration.corrections(plan.comparison.setting, plan.name)
        second = expect(plan.comparison, plan.method, learned, None, calibration.shape(plan.comparison.setting))
        assert second.total(4, "flops") == pytest.approx(measured, rel=0.01), method
        assert "seconds" in second.step
        spent = spent_by(plan)
        assert spent is None or set(spent.actual) == set(AXES)


@pytest.mark.slow
def test_what_is_predicted_before_anything_is_there(smollm2_start: Path, tmp_path: Path) -> None:
    """Operations of built-in models before they are there; nothing where the model or the machine is unknown."""
    from harness.answer.tiny_model import build_tiny
    from harness.run.spending import KNOWN_CONFIGS, predicted_spending
    from harness.store.environment import environment

    def ahead(name: str, axis: str) -> dict[str, float]:
        builtin = yaml.safe_load(builtin_recipes()[name].read_text())
        changes = {"budgets": {"b": {"axis": axis, "limit": 1e13}}, "budget": "b", "tune": {"learning_rates": [1e-3]}}
        plan = make_run(Recipe.model_validate(builtin | changes), "b", "dpo", 0, [], Store(tmp_path))
        return predicted_spending(plan, Calibration(tmp_path, environment()))

    assert ahead("smollm2", "flops")["flops"] == pytest.approx(1e13, rel=0.1)
    assert ahead("tiny", "flops")["flops"] == pytest.approx(1e13, rel=0.1)
    assert "steps" not in ahead("smollm2", "seconds")
    config = json.loads((smollm2_start / "config.json").read_text())
    assert KNOWN_CONFIGS["smollm2"].items() <= config.items()
    assert KNOWN_CONFIGS["tiny"].items() <= build_tiny().model.config.to_dict().items()


def test_forecast_finds_the_step_that_ends_a_run() -> None:
    from harness.budget.forecast import Forecast

    prediction = Forecast(
        {"pairs": 4, "steps": 1, "flops": 10.0}, {"flops": 2.0, "oracle_calls": 8.0}, stored=4, pairs=10
    )
    assert prediction.total(2, "flops") == 2 * 10 + 8 * 2
    assert prediction.total(5, "flops") == 5 * 10 + 10 * 2
    assert prediction.steps(Budget("b", "flops", 70)) == 5
    assert prediction.steps(Budget("b", "flops", 70, {"steps": 3})) == 3
    assert prediction.steps(Budget("b", "pairs", 64)) == 16


def test_trials_cover_learning_rates_and_own_settings_evenly() -> None:
    rates = [1e-4, 3e-4, 1e-3, 3e-3]
    plain = points(TuneSpec(learning_rates=rates), "simpo", {"beta": [2, 10]}, {})
    assert [p.learning_rate for p in plain] == rates
    tune = TuneSpec(learning_rates=rates, trials=4)
    own = points(tune, "simpo", {"beta": [2, 10]}, {})
    assert [p.learning_rate for p in own] == rates
    assert sorted(p.options["beta"] for p in own) == [2, 2, 10, 10]
    assert points(tune, "dpo", {}, {}) == [Point(r) for r in rates]
    assert points(tune, "simpo", {"beta": [2, 10]}, {"beta": 5}) == [Point(r) for r in rates]
    given = TuneSpec(learning_rates=rates[:2], trials=4, grids={"simpo": {"gamma_ratio": [0.1, 0.2]}})
    assert len({(p.learning_rate, p.options["gamma_ratio"]) for p in points(given, "simpo", {"beta": [2]}, {})}) == 4
    with pytest.raises(UserError, match=r"tune\.trials asks for 5 trials, dpo offers 4 points"):
        points(TuneSpec(learning_rates=rates, trials=5), "dpo", {}, {})


def test_named_budgets_are_listed(cli: Cli) -> None:
    done = cli("budgets", "tiny")
    assert done.returncode == 0
    for name in (*named_budgets(), "pairs-16", *AXES):
        assert name in done.stdout


def test_recipes_may_name_a_shipped_budget_and_keys_stay() -> None:
    recipe = budgeted("pairs", 16, budget="iso-flops-1e13", budgets={})
    assert recipe.budget == "iso-flops-1e13"
    with pytest.raises(ValueError, match="is not one of budgets"):
        budgeted("pairs", 16, budget="absent")
    with pytest.raises(ValueError, match="the matched axis"):
        BudgetSpec(axis="flops", limit=10, caps={"flops": 5})
    assert Budget.of("b", BudgetSpec(axis="pairs", limit=64.0)).key() == ["pairs", 64]
    assert json.dumps(BudgetSpec(axis="pairs", limit=64.0).limit) == "64"


@pytest.mark.slow
def test_search_over_own_settings_and_curve_on_the_page(tiny_copy: Path, cli: Cli) -> None:
    """``tune.trials`` and the benchmark ``curve`` through the command, with prices."""
    write_tiny(
        tiny_copy / "searched.yaml",
        tune={"learning_rates": [1e-3, 3e-3], "trials": 2},
        methods=["start", "simpo", "iterative-dpo"],
        benchmarks={"preference": {"max_new_tokens": 8}, "curve": {"max_new_tokens": 8, "prompts": 6}},
        prices={"device_hour": 1.5, "oracle_call": 0.01},
        budgets={"f": {"axis": "flops", "limit": 1.5e10}},
        budget="f",
    )
    done = cli("compare", "searched.yaml", cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    folder = tiny_copy / "results/local/searched/f"
    simpo, start = (read_result(folder / method / "seed-0.json") for method in ("simpo", "start"))
    assert len(simpo.trials) == 2
    assert len({trial.options["beta"] for trial in simpo.trials}) == 2
    curve, preference, base = (
        result.items["items"]
        for result in (simpo.benchmark("curve"), simpo.benchmark("preference"), start.benchmark("curve"))
        if result is not None
    )
    assert curve["reward_1"] == preference["reward"][:6]
    assert base["reward_0.25"] == base["reward_1"] == base["area"]
    rewards = [curve[f"reward_{share}"] for share in ("0.25", "0.5", "0.75", "1")]
    for i, area in enumerate(curve["area"]):
        y = [base["reward_1"][i], *[reward[i] for reward in rewards]]
        assert area == pytest.approx((y[0] / 2 + y[1] + y[2] + y[3] + y[4] / 2) / 4, abs=1e-5)
    page = (folder / "LEADERBOARD.md").read_text()
    assert "matched on flops (1.5·10¹⁰ FLOPs" in page
    assert "**FLOPs** (matched)" in page
    assert "money, USD" in page
    assert "curve.svg" in page
    assert (folder / "curve.svg").is_file()
    assert cli("plan", "searched.yaml", cwd=tiny_copy).stdout.count("predicted -> spent") == 2
