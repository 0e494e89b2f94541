"""Training in several processes (``train.processes``): what one process with as many micro-batches does."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from kit.command import tiny_recipe
from safetensors.torch import load_file

from harness.budget.ledger import FLOPS, Ledger
from harness.recipe.recipe import Recipe
from harness.run.plan import make_run
from harness.run.run import Run
from harness.store.json_files import read_json
from harness.store.stages import Store

PAIRS = 24
METHODS = ("dpo", "sail-pr", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("simpo", "sail-pp")))


class Policy(NamedTuple):
    """A training: weights of the adapter, losses of the steps, spending."""

    weights: dict[str, Any]
    losses: list[float]
    ledger: Ledger


def recipe_of(**train: Any) -> Recipe:
    """`tiny` with steps of six pairs."""
    tiny = tiny_recipe(tune={"learning_rates": [1e-3]}, budget="b")
    changes = {
        "budgets": {"b": {"axis": "pairs", "limit": PAIRS}},
        "data": tiny["data"] | {"train_prompts": 48},
        "train": tiny["train"] | {"checkpoints": 2} | train,
    }
    return Recipe.model_validate(tiny | changes)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """Makes a store with the start policy and the pairs, of which no epoch ends within a step."""
    made = Store(tmp_path_factory.mktemp("made"))
    plan = make_run(recipe_of(), "b", "dpo", 0, [], made)
    Run(plan, lambda kind, value: None).pairs()
    counts = read_json(made.path(plan.comparison.facts.pairs.stage) / "counts.json")
    assert counts["train"]["pairs"] >= 12

    def make(name: str) -> Store:
        root = tmp_path_factory.mktemp(name)
        shutil.copytree(made.root / "stages", root / "stages")
        return Store(root)

    return make


def train(store: Store, method: str, emit: Callable[[str, Any], None] = lambda kind, value: None, **how: Any) -> Policy:
    plan = make_run(recipe_of(**how), "b", method, 0, [], store)
    node = plan.trials[0].train
    folder = Run(plan, emit).train(node)
    log = read_json(folder / "log.json")
    weights = load_file(folder / "policy" / "adapter_model.safetensors")
    return Policy(weights, [row["loss"] for row in log], Ledger.load(store.manifest(node.stage)["ledger"]))


@pytest.fixture(scope="module")
def alone(stages: Callable[[str], Store]) -> Callable[[str, int], Policy]:
    """A training in one process, with so many micro-batches a step."""

    @cache
    def make(method: str, count: int) -> Policy:
        return train(stages("alone"), method, batch_size=6 // count, gradient_accumulation=count)

    return make


def assert_same(one: Policy, several: Policy) -> None:
    assert several.losses == pytest.approx(one.losses, abs=1e-5)
    moved = sum(float(w.pow(2).sum()) for n, w in one.weights.items() if "lora_B" in n) ** 0.5  # it begins at zero
    apart = sum(float((w - several.weights[n]).pow(2).sum()) for n, w in one.weights.items()) ** 0.5
    assert moved > 0
    assert apart < 1e-3 * moved
    ours, theirs = ({p: dict(row) for p, row in policy.ledger.entries.items()} for policy in (several, one))
    assert ours.keys() == theirs.keys()
    for phase, row in theirs.items():
        for quantity, amount in row.items():
            if phase in ("generate", "reference") and quantity in (*FLOPS, "tokens"):  # of batches of other answers
                assert ours[phase][quantity] == pytest.approx(amount, rel=0.1), (phase, quantity)
            elif quantity != "seconds":
                assert ours[phase][quantity] == pytest.approx(amount, rel=1e-9), (phase, quantity)
    assert several.ledger.bought == one.ledger.bought


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("sharding", [None, pytest.param("fsdp2", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("method", METHODS)
def test_processes_train_the_policy_of_one(
    method: str,
    sharding: str | None,
    processes: int,
    alone: Callable[[str, int], Policy],
    stages: Callable[[str], Store],
) -> None:
    """Losses to 1e-5, weights to 1e-3 of how far they moved, the same spending."""
    several = train(stages("several"), method, batch_size=6 // processes, processes=processes, sharding=sharding)
    assert len(several.losses) == PAIRS // 6
    assert_same(alone(method, processes), several)


@pytest.mark.slow
def test_a_killed_process_ends_the_training_and_the_next_one_goes_on(
    alone: Callable[[str, int], Policy], stages: Callable[[str], Store]
) -> None:
    """From the last checkpoint, with what was spent until then."""
    store, killed = stages("killed"), list[int | None]()

    def kill_one(kind: str, value: Any) -> None:
        if kind == "at" and value >= 75 and not killed:
            (rank,) = (process for process in multiprocessing.active_children() if process.name == "rank-1")
            killed.append(rank.pid)
            rank.kill()

    with pytest.raises(RuntimeError):
        train(store, "dpo", kill_one, batch_size=3, processes=2)
    assert killed
    assert list(store.root.glob("work/train-*/checkpoints/checkpoint-*/ledger.json"))
    assert_same(alone("dpo", 2), train(store, "dpo", batch_size=3, processes=2))
