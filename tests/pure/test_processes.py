"""Training in several processes, without any: ledgers that are joined, devices that are dealt out, what is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from kit.command import tiny_recipe

from harness.budget.ledger import Ledger
from harness.budget.memory import PRECISIONS, Memory, sharded_memory
from harness.budget.model_size import size_of_config
from harness.errors import UserError
from harness.methods.base import PairMethod
from harness.recipe.recipe import Recipe
from harness.recipe.train import TrainSpec
from harness.run.devices import device_groups
from harness.run.plan import make_run
from harness.run.plugins import OURS, plugins
from harness.run.spending import KNOWN_CONFIGS
from harness.store.settings import Settings, using
from harness.store.stages import Store
from harness.train import joint
from harness.train.context import TrainContext
from harness.train.joint import JointLedger


class Ranks:
    """Threads as processes: each call waits for all and gives their values in order."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._values = count, dict[int, Any]()
        self._barrier, self._own = threading.Barrier(count), threading.local()
        monkeypatch.setattr(joint, "all_ranks", self._all)

    def _all(self, value: Any) -> list[Any]:
        self._values[self._own.rank] = value
        self._barrier.wait(10)
        values = [self._values[rank] for rank in range(self.count)]
        self._barrier.wait(10)
        return values

    def run(self, work: Any) -> None:
        def body(rank: int) -> None:
            self._own.rank = rank
            work(rank)

        threads = [threading.Thread(target=body, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()


def test_ledgers_are_sums_and_steps_are_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes, two steps, from a ledger that was restored: by hand."""
    ledgers = [Ledger({"train": {"tokens": 100, "steps": 4}}, bought={7}) for _ in range(3)]

    def work(rank: int) -> None:
        ledger, joined = ledgers[rank], JointLedger(ledgers[rank])
        for step in (1, 2):
            ledger.add("train", "tokens", 10 * (rank + 1) * step)
            ledger.add("train", "steps", 1)
            ledger.add("train", "seconds", 0.5 + rank)
            ledger.add("wall", "seconds", 2.0)
            if rank == 2:
                ledger.add("oracle", "calls", 3)
            ledger.bought.add(10 * step + rank)
            joined.join()

    Ranks(3, monkeypatch).run(work)
    for ledger in ledgers:
        assert ledger.entries == {
            "train": {"tokens": 100 + 60 + 120, "steps": 6, "seconds": 2 * (0.5 + 1.5 + 2.5)},
            "wall": {"seconds": 4.0},
            "oracle": {"calls": 6},
        }
        assert ledger.bought == {7, 10, 11, 12, 20, 21, 22}


def test_one_process_keeps_its_ledger() -> None:
    ledger = Ledger({"train": {"tokens": 1}})
    entries = ledger.entries
    JointLedger(ledger).join()
    assert ledger.entries is entries


def test_devices_are_dealt_out() -> None:
    assert device_groups(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert device_groups(["0", "3"], 1) == ["0", "3"]
    assert device_groups([], 4) == []
    with pytest.raises(UserError, match="train.processes: 4 needs as many GPUs, and 2 can be used here"):
        device_groups(["0", "1"], 4)


def test_records_of_one_process_are_those_of_before() -> None:
    """The keys of stages hash them."""
    assert not {"processes", "sharding"} & TrainSpec().model_dump(mode="json").keys()
    assert TrainSpec(processes=2, sharding="fsdp2").model_dump(mode="json")["processes"] == 2
    assert TrainSpec(batch_size=3, gradient_accumulation=5, processes=2).pairs_per_step == 30
    with pytest.raises(ValueError, match="sharding: fsdp2 shares weights between processes, and there is one"):
        TrainSpec(sharding="fsdp2")


@pytest.mark.parametrize(
    ("method", "train", "engine", "words"),
    [
        ("kto", {"processes": 2}, "transformers", "The method kto trains in one process"),
        ("spin", {"processes": 2}, "transformers", "The method spin trains in one process"),
        ("sail-pr", {"processes": 2}, "vllm", "which the engine vllm does for one process"),
        ("sail-pp", {"processes": 2, "sharding": "zero3"}, "transformers", "train.sharding: zero3 does not let it"),
        ("dpo", {"processes": 2, "sharding": "zero3"}, "transformers", "needs DeepSpeed: install it"),
    ],
)
def test_what_cannot_train_so_is_refused(
    method: str, train: dict[str, Any], engine: str, words: str, tmp_path: Any
) -> None:
    tiny = tiny_recipe()
    recipe = Recipe.model_validate(tiny | {"train": tiny["train"] | train, "engine": {"name": engine}})
    with using(Settings()), pytest.raises(UserError, match=words):
        make_run(recipe, recipe.budget, method, 0, [], Store(tmp_path))


def test_shares_of_memory() -> None:
    """Llama 3's 8 billion weights in bfloat16 with four processes: a quarter, two blocks, embeddings and head."""
    size = size_of_config(KNOWN_CONFIGS["meta-llama/Meta-Llama-3-8B-Instruct"], 0, 16)
    assert size is not None
    whole = Memory(
        "a step", {"weights": 16e9, "optimiser": 4e8, "reference": 0.0, "gradients": 2e8, "activations": 5e9}
    )
    parts = sharded_memory(whole, size, PRECISIONS["bf16"], 4).parts
    assert [parts[name] for name in ("weights", "optimiser", "gradients")] == [4e9, 1e8, 5e7]
    assert parts["activations"] == 5e9
    attention, mlp = 2 * 4096 * 4096 + 2 * 4096 * 1024, 3 * 4096 * 14336
    block, ends = attention + mlp + 2 * 4096, 2 * 128256 * 4096
    assert parts["gathered weights"] == pytest.approx(2 * (2 * block + ends), rel=1e-3)


def test_a_train_of_its_own_does_not_inherit_that_it_may_run_in_several() -> None:
    class Loss(PairMethod):
        """Changes the loss alone."""

    class Rounds(PairMethod):
        """Trains in rounds."""

        def train(self, context: TrainContext) -> Path | None:
            return None

    class Once(Rounds):
        """Says that it may."""

        distributed = True

        def train(self, context: TrainContext) -> Path | None:
            return None

    assert (Loss.distributed, Rounds.distributed, Once.distributed) == (True, False, True)


def test_our_methods_in_rounds_and_kto_train_in_one_process_and_all_others_may_in_several() -> None:
    ours = {name: plugin.load() for name, plugin in plugins("methods").items() if plugin.origin == OURS}
    assert {name for name, one in ours.items() if one.trains and not one.distributed} == {
        "iterative-dpo",
        "kto",
        "spin",
    }
