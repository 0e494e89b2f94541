"""Lower blocks that trainings share: no number depends on which training was first, or on whether anything is kept."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from kit.command import tiny_recipe
from kit.contexts import context
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from harness.answer import load, packed_weights
from harness.answer.load import load_model
from harness.answer.lower_blocks import LowerBlocks
from harness.budget.budget import Budget
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.methods.base import Method
from harness.methods.dpo import DPO
from harness.methods.kto import KTO
from harness.methods.sail_dp import SAILDP
from harness.methods.sail_pp import SAILPP
from harness.methods.sft import SFT
from harness.recipe.recipe import Recipe
from harness.recipe.train import LoraSpec, TrainSpec
from harness.run.plan import make_run
from harness.run.resources import Resources
from harness.run.run import Run
from harness.store.stages import Store
from harness.store.tensor_cache import HIDDEN_STATES, TensorCache
from harness.train.shared_steps import SharedSteps
from sail.prefill import backbone

STEPS, BATCH, LOWER = 3, 6, 2
"""Of 12 pairs, so that the last step is in the second epoch; blocks without an adapter, of 3."""


class Trained(NamedTuple):
    """A finished training: losses, weights, what it spent, and passes through the lowest block."""

    losses: list[float]
    weights: dict[str, torch.Tensor]
    ledger: Ledger
    computed: int

    @property
    def spent(self) -> dict[str, Any]:
        """All but seconds."""
        entries = self.ledger.entries
        return {name: {k: v for k, v in row.items() if k != "seconds"} for name, row in entries.items()}


class Workshop:
    """Trains the tiny model on the same random pairs, each time as in a fresh process."""

    def __init__(self, start: Path, folder: Path) -> None:
        self.start, self.folder, self.number = start, folder, 0

    def __call__(
        self, method: Method, rate: float = 1e-2, *, shares: bool = True, lora: int = 1, **options: Any
    ) -> Trained:
        """One training; ``shares``: whether its lower blocks may be passed by and kept; ``lora``: adapted blocks."""
        self.number += 1
        computed, meter = 0, Meter(Ledger())

        def count(*args: Any) -> None:
            nonlocal computed
            computed += torch.is_grad_enabled()

        def fresh(folder: Path | None = None) -> Any:
            model = meter.attach(load_model(self.start))
            model.model.layers[0].mlp.up_proj.register_forward_hook(count)
            if shares:
                share(model, self.folder / "cache", meter)
            return model

        train = TrainSpec(batch_size=BATCH, lora=LoraSpec(r=2, layers=lora), **options)
        budget, folder = Budget("b", "steps", STEPS), self.folder / str(self.number)
        made = context(self.start, folder, train, budget, learning_rate=rate, load_model=fresh)
        made.meter, made.ledger = meter, meter.ledger
        meter.charge_stored_pairs(made.pairs, {"calls": 1.0}, train.max_length)
        with meter.enforce(budget):
            policy = method.train(made)
        assert policy is not None
        losses = [row["loss"] for row in made.log]
        return Trained(losses, load_file(policy / "adapter_model.safetensors"), meter.ledger, computed)

    @property
    def kept(self) -> list[Path]:
        return sorted((self.folder / "cache").glob("*"))


def share(model: Any, cache: Path, meter: Meter, blocks: int = LOWER) -> None:
    """As :meth:`harness.run.resources.Resources.share_steps` does with larger models."""
    own = list(model.model.layers[:blocks])
    make = partial(LowerBlocks, identity="start", cache=TensorCache(cache), charge=meter.charge_step)
    backbone(model).forward = SharedSteps(model, own, make, meter)


@pytest.fixture
def workshop(tiny_dir: Path, tmp_path: Path) -> Workshop:
    return Workshop(tiny_dir, tmp_path)


def assert_same(ours: Trained, theirs: Trained) -> None:
    """Bit for bit."""
    assert ours.losses == theirs.losses and len(ours.losses) == STEPS
    assert ours.weights.keys() == theirs.weights.keys()
    assert all(torch.equal(ours.weights[name], weight) for name, weight in theirs.weights.items())
    assert ours.spent == theirs.spent


def test_trials_and_offline_methods_share_steps(workshop: Workshop) -> None:
    """Another learning rate, and methods with other losses, on the batches of the first training."""
    first, plain = workshop(DPO()), workshop(DPO(), shares=False)
    assert_same(first, plain)
    assert plain.computed == first.computed == STEPS
    kept = workshop.kept
    assert len(kept) == STEPS + 1, "and the probe"
    for method, rate in ((DPO(), 3e-2), (SAILDP(), 1e-2), (KTO(), 1e-2)):
        later, plain = workshop(method, rate), workshop(method, rate, shares=False)
        assert_same(later, plain)
        assert (later.computed, plain.computed) == (0, STEPS), method.name
        assert later.losses[1:] != first.losses[1:]
    assert workshop.kept == kept


def test_chosen_responses_alone_are_other_batches(workshop: Workshop) -> None:
    workshop(DPO())
    ours, later = workshop(SFT()), workshop(SFT())
    assert_same(ours, later)
    assert (ours.computed, later.computed) == (STEPS, 0)


def test_kept_seconds_are_charged(workshop: Workshop) -> None:
    """To training, and to the whole time of it."""
    workshop(DPO())
    for file in workshop.kept:
        cache = TensorCache(file.parent)
        states = cache.get(file.stem)
        assert states is not None
        cache.put(file.stem, states | {"seconds": torch.tensor(100.0, dtype=torch.float64)})
    ledger = workshop(DPO(), 3e-2).ledger
    for phase in ("train", "wall"):
        assert 100 * STEPS < ledger.get(phase, "seconds") < 100 * STEPS + 90
    assert "generate" not in ledger.entries


def test_fresh_answers_are_not_kept(workshop: Workshop) -> None:
    method = SAILPP(SAILPP.Config(share=1.0))
    ours, plain = workshop(method), workshop(method, shares=False)
    assert_same(ours, plain)
    assert ours.computed == STEPS and not workshop.kept


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(file.read_bytes()[:-9]), Path.unlink])
def test_damaged_files_cost_time_alone(workshop: Workshop, damage: Callable[[Path], Any]) -> None:
    first = workshop(DPO())
    files = workshop.kept
    for file in files[::2]:
        damage(file)
    again = workshop(DPO())
    assert_same(again, first)
    assert 0 < again.computed < STEPS and workshop.kept == files


OPTIONS: dict[str, dict[str, Any]] = {
    "adapters on all blocks": {"lora": 0},
    "gradient checkpointing": {"gradient_checkpointing": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_trains_below_is_computed(workshop: Workshop, name: str) -> None:
    ours, plain = workshop(DPO(), **OPTIONS[name]), workshop(DPO(), shares=False, **OPTIONS[name])
    assert_same(ours, plain)
    assert ours.computed == plain.computed >= STEPS and not workshop.kept


def test_packed_weights_give_their_own_numbers(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of packed and plain weights each training reads what its own kind gave."""
    first = workshop(DPO())
    monkeypatch.setattr(packed_weights, "LEAST_PACKED", 1)
    packed = workshop(DPO())
    assert packed.computed == (STEPS if packed_weights.best_kernel() else 0)
    assert_same(packed, workshop(DPO(), shares=False))
    for kernel in filter(packed_weights.agrees, (packed_weights.MKL, packed_weights.ONEDNN)):
        if kernel is not packed_weights.best_kernel():
            with monkeypatch.context() as other:
                other.setattr(packed_weights, "best_kernel", lambda kernel=kernel: kernel)
                assert workshop(DPO()).computed == STEPS, "the other library's"
    monkeypatch.undo()
    again = workshop(DPO())
    assert_same(again, first)
    assert again.computed == 0


class Passes:
    """A model whose passes with gradient are counted at its lowest block."""

    def __init__(self, start: Path, cache: Path) -> None:
        self.meter, self.computed = Meter(Ledger()), 0
        self.model = self.meter.attach(load_model(start))
        share(self.model, cache, self.meter)
        self.model.requires_grad_(False)
        self.ids = torch.arange(20).view(2, 10)
        pairs = [{"prompt_ids": [*range(8)], "chosen_ids": [8, 9], "rejected_ids": []}]
        pairs += [{"prompt_ids": [*range(10, 18)], "chosen_ids": [18, 19], "rejected_ids": []}]
        self.meter.charge_stored_pairs(pairs, {}, 99)

    def __call__(self, model: Any = None, **options: Any) -> tuple[torch.Tensor, int]:
        """Hidden states, and how often the lowest block was computed."""
        model, computed = model or self.model, 0

        def count(*args: Any) -> None:
            nonlocal computed
            computed += torch.is_grad_enabled()

        hook = model.model.layers[0].mlp.up_proj.register_forward_hook(count)
        inputs = {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids), "use_cache": False} | options
        hidden = model.model(**inputs).last_hidden_state
        hook.remove()
        return hidden, computed


@pytest.fixture
def passes(tiny_dir: Path, tmp_path: Path) -> Passes:
    return Passes(tiny_dir, tmp_path)


def test_a_forward_that_asks_for_more_is_computed(passes: Passes) -> None:
    whole = passes()[0]
    assert passes()[1] == 0
    for options in ({"output_hidden_states": True}, {"use_cache": True}, {"use_cache": None}):
        hidden, computed = passes(**options)
        assert computed == 1 and torch.equal(hidden, whole)
    assert passes(attention_mask=None)[1] == 1, "other inputs"
    assert passes(position_ids=torch.arange(10)[None] + 1)[1] == 1, "other inputs"


ADAPTER = LoraConfig(target_modules=["down_proj"], init_lora_weights=False)

CHANGES: dict[str, Callable[[Any], Any]] = {
    "a lower weight": lambda model: model.model.layers[1].mlp.up_proj.weight.mul_(1.5),
    "the embeddings": lambda model: model.model.embed_tokens.weight.mul_(1.5),
    "noise": lambda model: model.model.embed_tokens.register_forward_hook(lambda *args: args[-1] * 1.5),
    "an adapter": lambda model: get_peft_model(model, ADAPTER),
    "a trained norm": lambda model: model.model.layers[0].input_layernorm.requires_grad_(True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_lower_blocks_are_computed(passes: Passes, name: str) -> None:
    passes()
    with torch.no_grad():
        CHANGES[name](passes.model)
    hidden, computed = passes()
    assert computed == 1
    shared, passes.meter.trains_stored = backbone(passes.model).forward, False
    assert torch.equal(hidden, passes()[0]) and backbone(passes.model).forward is shared


def test_dropout_is_drawn(passes: Passes) -> None:
    for block in passes.model.model.layers:
        block.self_attn.attention_dropout = 0.5
    passes.model.train()
    assert [passes()[1], passes()[1]] == [1, 1]


def test_a_copy_computes_with_its_own_weights(passes: Passes) -> None:
    passes()
    copy = deepcopy(passes.model)
    with torch.no_grad():
        copy.model.layers[0].mlp.up_proj.weight.mul_(2)
        copy.model.layers[2].mlp.up_proj.weight.mul_(2)
    hidden, computed = passes(copy)
    assert computed == 1 and not torch.equal(hidden, passes()[0])


def tiny(**changes: Any) -> Recipe:
    """The recipe `tiny`, two learning rates, an adapter on the top block."""
    raw = tiny_recipe(tune={"learning_rates": [1e-3, 3e-3]}, budget="b", budgets={"b": {"axis": "pairs", "limit": 12}})
    return Recipe.model_validate(raw | {"train": raw["train"] | {"batch_size": 4, "lora": {"layers": 1}}} | changes)


def test_which_trainings_share(tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shares(recipe: Recipe) -> bool:
        node: Any = SimpleNamespace(key="start")
        model = load_model(tiny_dir)
        Resources(recipe, Store(tmp_path), node, lambda *event: None).share_steps(model)
        return isinstance(backbone(model).forward, SharedSteps)

    assert not shares(tiny()), "too small"
    monkeypatch.setattr(load, "MIN_WEIGHTS", 1)
    assert shares(tiny())
    train = tiny().train
    for lora in (None, LoraSpec(layers=0)):
        assert not shares(tiny(train=train.model_copy(update={"lora": lora})))
    assert not shares(tiny(precision="bf16-mixed"))


def test_a_model_that_does_not_train_is_freed_at_once(tiny_dir: Path, tmp_path: Path) -> None:
    meter = Meter(Ledger())
    model = meter.attach(load_model(tiny_dir))
    share(model, tmp_path, meter)
    with torch.no_grad():
        model(torch.arange(4)[None])
    alive = weakref.ref(model)
    del model
    assert alive() is None


@pytest.mark.slow
def test_trials_of_a_run_share(finished_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies with and without, trained from the same stored pairs."""

    def trained(name: str) -> list[dict[str, torch.Tensor]]:
        for kind in ("start", "pairs"):
            for path in (finished_tiny / ".sail-bench" / "stages").glob(f"{kind}-*"):
                shutil.copytree(path, tmp_path / name / "stages" / path.name)
        store, policies = Store(tmp_path / name), []
        for method in ("dpo", "sail-dp"):
            plan = make_run(tiny(), "b", method, 0, [], store)
            for trial in plan.trials:
                folder = Run(plan, lambda *event: None).train(trial.train)
                policies.append(load_file(folder / "policy" / "adapter_model.safetensors"))
        return policies

    plain = trained("plain")
    monkeypatch.setattr(load, "MIN_WEIGHTS", 1)
    shared = trained("shared")
    for ours, theirs in zip(shared, plain, strict=True):
        assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
    states = {name: list((tmp_path / name / HIDDEN_STATES).glob("*")) for name in ("plain", "shared")}
    assert (len(states["plain"]), len(states["shared"])) == (0, 3 + 1), "three steps and the probe"
