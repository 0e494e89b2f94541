"""Budgets on every axis: what is matched is equal within a step, what a run spends is in its ledger, once."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from harness.budget.budget import Budget
from harness.budget.calibration import Calibration
from harness.budget.forecast import Corrections
from harness.budget.ledger import AXES, Ledger
from harness.budget.spec import BudgetSpec, named_budgets
from harness.cli import main
from harness.errors import UserError
from harness.recipe.load import builtin_recipes
from harness.recipe.recipe import Recipe, TuneSpec
from harness.recipe.search import Point, points
from harness.run.plan import make_run
from harness.run.plugins import OURS, load, plugins
from harness.run.run import Run
from harness.store.json_files import read_rows
from harness.store.stages import Store

TRAINED = [n for n, p in plugins("methods").items() if p.origin == OURS and load("methods", n).trains]
LIMITS = {"steps": 3, "pairs": 12, "train_tokens": 2500, "generated_tokens": 1100, "oracle_calls": 64, "flops": 1.5e10}


def recipe(axis: str, limit: float, **more: Any) -> Recipe:
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    caps = more.pop("caps", {})
    budget = {"axis": axis, "limit": limit, "caps": caps}
    changes = {"budgets": {"b": budget}, "budget": "b", "tune": {"learning_rates": [1e-3]}}
    return Recipe.model_validate(tiny | changes | more)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the start policy and the pairs."""
    root = tmp_path_factory.mktemp("store")
    plan = make_run(recipe("pairs", 16), "b", "dpo", 0, [], Store(root))
    Run(plan, lambda kind, value: None).pairs()
    return root


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Store:
    return Store(Path(shutil.copytree(prepared, tmp_path / "store")))


def train(made: Recipe, method: str, store: Store) -> tuple[Ledger, list[float], Budget]:
    """The ledger of a training run, and what each of its steps spent on the matched axis."""
    plan = make_run(made, "b", method, 0, [], store)
    budget, spent = plan.comparison.budget, [0.0]
    run = Run(plan, lambda kind, value: spent.append(budget.spent(run.resources.ledger)) if kind == "at" else None)
    run.train(plan.trials[0].train)
    ledger = Ledger.load(store.manifest(plan.trials[0].train.stage)["ledger"])
    return ledger, [b - a for a, b in pairwise(spent)], budget


@pytest.mark.slow
@pytest.mark.parametrize("axis", LIMITS)
def test_every_method_ends_within_a_step_of_every_other(axis: str, store: Store) -> None:
    """Actual spending of all built-in methods: at or beyond the limit, by less than one step (never more than exactly
    the limit where a step's size is known)."""
    ends, steps = {}, {}
    for method in TRAINED:
        ledger, increments, budget = train(recipe(axis, LIMITS[axis]), method, store)
        ends[method], steps[method] = budget.spent(ledger), max(increments)
        assert ends[method] == pytest.approx(sum(increments), abs=1)
        assert 0 <= ends[method] - budget.limit < steps[method], method
        assert budget.stopped_by(ledger) == axis
        if axis in ("steps", "pairs"):
            assert ends[method] == budget.limit, method
    assert max(ends.values()) - min(ends.values()) <= max(steps.values())


@pytest.mark.slow
def test_seconds_end_within_a_step(store: Store) -> None:
    ledger, increments, budget = train(recipe("seconds", 6), "dpo", store)
    assert 0 <= budget.spent(ledger) - budget.limit < max(increments)


@pytest.mark.slow
def test_stored_pairs_are_paid_at_first_use(store: Store) -> None:
    """DPO pays for each pair that it trained on, once; a method that samples its own pays for its own alone."""
    made = recipe("pairs", 24)
    plan = make_run(made, "b", "dpo", 0, [], store)
    count = len(read_rows(store.path(plan.comparison.facts.pairs.stage) / "train.jsonl"))
    sampled = store.manifest(plan.comparison.facts.pairs.stage)["ledger"]["phases"]["data"]
    assert sampled["calls"] == 96  # 24 prompts x 4 answers, held-out prompts left out
    assert count < 24, "the budget goes over the pairs more than once"
    dpo = train(made, "dpo", store)[0]
    assert dpo.get("data", "pairs") == count == len(dpo.bought)
    assert dpo.spent("oracle_calls") == 96
    assert dpo.spent("generated_tokens") == sampled["generated"]
    assert dpo.spent("oracle_calls", free_data=True) == 0
    online = train(made, "online-dpo", store)[0]
    assert not online.bought
    assert online.spent("oracle_calls") == 2 * 24
    one = train(recipe("pairs", 4), "sft", store)[0]
    assert (one.get("data", "pairs"), one.spent("oracle_calls")) == (4, pytest.approx(4 * 96 / count, abs=1))


@pytest.mark.slow
def test_free_pairs_count_towards_no_axis_but_are_in_the_ledger(store: Store) -> None:
    free = recipe("flops", 1.5e10)
    free = free.model_copy(update={"data": free.data.model_copy(update={"free": True})})
    ledger, _, budget = train(free, "dpo", store)
    assert budget.spent(ledger) < ledger.spent("flops")
    assert ledger.flops("data") > 0
    paid = train(recipe("flops", 1.5e10), "dpo", store)[0]
    assert paid.get("train", "steps") < ledger.get("train", "steps")


@pytest.mark.slow
def test_a_cap_ends_a_run_and_an_axis_that_stands_still_does(store: Store) -> None:
    capped, _, budget = train(recipe("flops", 1e13, caps={"steps": 2}), "dpo", store)
    assert (capped.get("train", "steps"), budget.stopped_by(capped)) == (2, "steps")
    still, _, budget = train(recipe("oracle_calls", 5000), "dpo", store)
    assert still.spent("oracle_calls") == 96
    assert budget.stopped_by(still) == ""
    assert still.get("train", "steps") <= 2 * (len(still.bought) // 4) + 2  # all pairs, then one pass in vain


@pytest.mark.slow
def test_a_budget_that_cannot_buy_a_step(store: Store) -> None:
    with pytest.raises(UserError, match=r"Budget 'b' \(1e\+06 flops\) cannot buy one step of 4 pairs, which costs"):
        train(recipe("flops", 1e6), "dpo", store)
    with pytest.raises(UserError, match="cannot buy one step of 4 pairs"):
        make_run(recipe("pairs", 3), "b", "dpo", 0, [], store)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "sail-pr", "iterative-dpo"])
def test_resumed_ledger_is_exact(method: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended in the middle of a step after its third, under a budget of operations: nothing counted twice or lost."""
    from harness.train.stopping import BudgetCallback

    made = recipe("flops", 3.5e10)
    whole = train(made, method, Store(Path(shutil.copytree(store.root, store.root.parent / "whole"))))[0]
    assert whole.get("train", "steps") > 4
    plan = make_run(made, "b", method, 0, [], store)
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
    cut = train(made, method, store)[0]
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

    made = recipe("pairs", 32)
    for method in ("dpo", "kto", "online-dpo", "simpo"):
        plan = make_run(made, "b", method, 0, [], store)
        first = expect(plan.comparison, plan.method, Corrections())
        ledger = train(made, method, store)[0]
        measured = ledger.spent("flops")
        assert first.total(first.steps(plan.comparison.budget), "flops") == pytest.approx(measured, rel=0.25), method
        calibration = Calibration(store.root, environment())
        known = calibration.corrections(plan.comparison.setting, plan.name)
        second = expect(plan.comparison, plan.method, known, None, calibration.shape(plan.comparison.setting))
        assert second.total(8, "flops") == pytest.approx(measured, rel=0.01), method
        assert "seconds" in second.step
        told = spent_by(plan)
        assert told is None or set(told[1]) == set(AXES)


@pytest.mark.slow
def test_what_is_predicted_before_anything_is_there(tmp_path: Path) -> None:
    """Operations of the embedded model before it is unpacked; nothing where the model or the machine is unknown."""
    from harness.answer.start_policy import build_start
    from harness.run.spending import KNOWN_CONFIGS, predicted_spending
    from harness.store.environment import environment

    def ahead(name: str, axis: str) -> dict[str, float]:
        raw = yaml.safe_load(builtin_recipes()[name].read_text())
        changes = {"budgets": {"b": {"axis": axis, "limit": 1e13}}, "budget": "b", "tune": {"learning_rates": [1e-3]}}
        made = Recipe.model_validate(raw | changes)
        plan = make_run(made, "b", "dpo", 0, [], Store(tmp_path))
        return predicted_spending(plan, Calibration(tmp_path, environment()))

    assert ahead("smollm2", "flops")["flops"] == pytest.approx(1e13, rel=0.1)
    assert "steps" not in ahead("tiny", "flops")
    assert "steps" not in ahead("smollm2", "seconds")
    real = json.loads((build_start("smollm2", Store(tmp_path)) / "config.json").read_text())
    assert KNOWN_CONFIGS["smollm2"].items() <= real.items()


def test_forecast_finds_the_step_that_ends_a_run() -> None:
    from harness.budget.forecast import Forecast

    found = Forecast({"pairs": 4, "steps": 1, "flops": 10.0}, {"flops": 2.0, "oracle_calls": 8.0}, stored=4, pairs=10)
    assert found.total(2, "flops") == 2 * 10 + 8 * 2
    assert found.total(5, "flops") == 5 * 10 + 10 * 2
    assert found.steps(Budget("b", "flops", 70)) == 5
    assert found.steps(Budget("b", "flops", 70, {"steps": 3})) == 3
    assert found.steps(Budget("b", "pairs", 64)) == 16


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


def test_named_budgets_are_listed() -> None:
    done = CliRunner().invoke(main, ["budgets", "tiny"])
    assert done.exit_code == 0
    for name in (*named_budgets(), "pairs-16", *AXES):
        assert name in done.output


def test_recipes_may_name_a_shipped_budget_and_keys_stay() -> None:
    made = recipe("pairs", 16, budget="iso-flops-1e13", budgets={})
    assert made.budget == "iso-flops-1e13"
    with pytest.raises(ValueError, match="is not one of budgets"):
        recipe("pairs", 16, budget="absent")
    with pytest.raises(ValueError, match="the matched axis"):
        BudgetSpec(axis="flops", limit=10, caps={"flops": 5})
    assert Budget.of("b", BudgetSpec(axis="pairs", limit=64.0)).key() == ["pairs", 64]
    assert json.dumps(BudgetSpec(axis="pairs", limit=64.0).limit) == "64"


@pytest.mark.slow
def test_search_over_own_settings_and_curve_on_the_page(tmp_path: Path) -> None:
    """``tune.trials`` and the benchmark ``curve`` through the command, with prices."""
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    changes = {
        "name": "searched",
        "tune": {"learning_rates": [1e-3, 3e-3], "trials": 2},
        "methods": ["start", "dpo", "simpo", "iterative-dpo"],
        "benchmarks": {"preference": {"max_new_tokens": 8}, "curve": {"max_new_tokens": 8, "prompts": 6}},
        "prices": {"device_hour": 1.5, "oracle_call": 0.01},
        "budgets": {"f": {"axis": "flops", "limit": 2.5e10}},
        "budget": "f",
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tiny | changes))
    arguments = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "r.yaml"), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "results/searched/f"
    found = json.loads((folder / "simpo/seed-0.json").read_text())
    assert len(found["trials"]) == 2
    assert len({t["options"]["beta"] for t in found["trials"]}) == 2
    curve = next(b for b in found["benchmarks"] if b["benchmark"] == "curve")
    items = curve["items"]["items"]
    final = next(b for b in found["benchmarks"] if b["benchmark"] == "preference")["items"]["items"]
    assert items["reward_1"] == final["reward"][:6]
    start = json.loads((folder / "start/seed-0.json").read_text())
    base = next(b for b in start["benchmarks"] if b["benchmark"] == "curve")["items"]["items"]
    assert base["reward_0.25"] == base["reward_1"] == base["area"]
    ways = [items[f"reward_{f}"] for f in ("0.25", "0.5", "0.75", "1")]
    for i, area in enumerate(items["area"]):
        y = [base["reward_1"][i], *[way[i] for way in ways]]
        assert area == pytest.approx((y[0] / 2 + y[1] + y[2] + y[3] + y[4] / 2) / 4, abs=1e-5)
    page = (folder / "LEADERBOARD.md").read_text()
    assert "matched on flops (2.5e+10 FLOPs" in page
    assert "**FLOPs** (matched)" in page
    assert "money, USD" in page
    assert "curve.svg" in page
    assert (folder / "curve.svg").is_file()
    told = CliRunner().invoke(main, ["plan", str(tmp_path / "r.yaml"), *arguments])
    assert told.output.count("predicted -> spent") == 3
