"""The engine that samples in place of transformers: whole runs with one that is transformers on the synced weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.command import SMALL, tiny_recipe
from kit.standin_engine import NAME, StandInEngine
from kit.training import EOS, longest, perturb, rows, sail_trainer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from harness.answer import rollout_engine
from harness.answer.engine_policy import EnginePolicy, EngineSampler
from harness.answer.policy import Policy
from harness.answer.rollout_engine import EngineSettings, make_engine
from harness.answer.vllm_engine import VllmEngine, keywords
from harness.budget.budget import Budget
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.recipe.search import Point
from harness.recipe.train import LoraSpec
from harness.run.configure import make_method
from harness.run.plan import make_runs
from harness.run.run import Run
from harness.run.stages import Training, pairs_stage, train_stage, tune_stage
from harness.store.row_cache import RowCache
from harness.store.stages import Stage, Store
from sail.types import Completion, Request

LORA = LoraSpec(r=4, alpha=8)


@pytest.fixture(autouse=True)
def standin(monkeypatch: pytest.MonkeyPatch) -> None:
    """``engine: vllm`` is the stand-in."""
    monkeypatch.setitem(rollout_engine.ENGINES, "vllm", NAME)
    StandInEngine.made.clear()


def engine_of(folder: Path, lora: LoraSpec | None = LORA) -> StandInEngine:
    engine = make_engine("vllm", EngineSettings(folder, "float32", lora, {}))
    assert isinstance(engine, StandInEngine)
    return engine


def requests(prompts: int = 3, answers: int = 2) -> list[Request]:
    return [Request((65 + p, 66, 67, 68 + p), 6, 1.0, ("test", p, k)) for p in range(prompts) for k in range(answers)]


def adapted(model: Any) -> Any:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return perturb(get_peft_model(model, config), scale=0.3)


def test_vllm_is_asked_for_what_the_recipe_needs_and_refused_where_it_cannot(
    tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a simulated GPU: sleep mode, the next adapter rank that vLLM knows; no float32 adapters. And not installed."""
    if find_spec("vllm") is None:
        with pytest.raises(UserError, match="engine: vllm, which is not installed: python -m pip install"):
            VllmEngine(EngineSettings(tiny_dir, "float32", LORA, {}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = keywords(EngineSettings(tiny_dir, "bfloat16", LoraSpec(r=24, alpha=8), {"gpu_memory_utilization": 0.3}))
    assert asked["enable_sleep_mode"] and asked["enable_lora"] and asked["max_lora_rank"] == 32
    assert asked["gpu_memory_utilization"] == 0.3
    assert "enable_lora" not in keywords(EngineSettings(tiny_dir, "float32", None, {}))
    with pytest.raises(UserError, match="no float32 adapters on a GPU: set precision: bf16"):
        keywords(EngineSettings(tiny_dir, "float32", LORA, {}))


def test_starting_the_engine_is_no_cost_of_sampling(
    tiny_dir: Path, load: Callable[[], Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, meter = engine_of(tiny_dir), Meter(Ledger())
    policy = EnginePolicy.of(Policy(load(), tokenizer, "p", meter=meter, cache=None), engine, None)
    inner = StandInEngine.wake

    def slow(self: StandInEngine) -> None:
        time.sleep(0 if self.started else 1.5)
        inner(self)

    monkeypatch.setattr(StandInEngine, "wake", slow)
    with meter.phase("data"):
        policy.sample(requests(1, 1))
    assert meter.ledger.get("setup", "seconds") >= 1.5
    assert meter.ledger.get("data", "seconds") < 1.5


# A model in training


@pytest.mark.parametrize("lora", [LORA, None])
def test_training_samples_what_transformers_would_from_the_weights_of_now(
    tiny_dir: Path, load: Callable[[], Any], tokenizer: Any, tmp_path: Path, lora: LoraSpec | None
) -> None:
    """The same rollouts and weights after three steps at a high rate; asleep while it trains; no folder stays."""
    options = {"peft_config": LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM")} if lora else {}
    settings: dict[str, Any] = {"pr_share": 1.0, "max_new_tokens": 6, "learning_rate": 0.02, "preference": longest}
    weights, slept = [], []
    engine = engine_of(tiny_dir, lora)
    sampler = EngineSampler(engine, tmp_path / "engine", Meter(Ledger()))
    for name, own in (("plain", {}), ("engine", {"sampler": sampler})):
        torch.manual_seed(0)
        trainer = sail_trainer(tmp_path / name, load, tokenizer, rows(), **settings, **options, **own)
        if own:
            inner = trainer._compute_loss

            def watched(*arguments: Any, inner: Any = inner) -> Any:
                slept.append(engine.asleep)
                return inner(*arguments)

            trainer._compute_loss = watched
        trainer.train()
        weights.append({n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad})
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=2e-4)
    assert len(engine.folders) == 3  # a sync a step
    assert slept and all(slept)
    assert list((tmp_path / "engine").iterdir()) == [engine.synced]
    sampler.close()
    assert not (tmp_path / "engine").exists()


def test_its_answers_cost_what_the_sampler_of_transformers_charges(
    tiny_dir: Path, load: Callable[[], Any], tokenizer: Any, tmp_path: Path
) -> None:
    """Several answers to one prompt, which transformers' sampler reads once; the check is charged to no budget."""
    spent = []
    for engine in (None, engine_of(tiny_dir)):
        meter = Meter(Ledger())
        policy = Policy(load(), tokenizer, "p", meter=meter, cache=None)
        sampled = policy if engine is None else EnginePolicy.of(policy, engine, None)
        answers = sampled.sample(requests(1, 4))
        ledger = meter.ledger
        spent.append((answers, ledger.get("generate", "tokens"), ledger.get("generate", "generated")))
        spent.append(ledger.flops("data", "train", "reference", "generate"))
    assert spent[0] == spent[2]
    assert spent[1] == pytest.approx(spent[3], rel=1e-3)


def test_an_engine_with_other_weights_is_refused(
    tiny_dir: Path, load: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given an adapter and goes on with the start policy."""
    engine, meter = engine_of(tiny_dir), Meter(Ledger())
    model = adapted(meter.attach(load()))
    sampler = EngineSampler(engine, tmp_path / "engine", meter)
    assert len(sampler(model, requests(), eos_ids=[EOS], pad_id=0)) == 6
    monkeypatch.setattr(StandInEngine, "_load", lambda self, folder: None)
    engine._model = load()
    with pytest.raises(UserError, match="nats a token off those of transformers, over 0.001: set engine: transformers"):
        sampler(model, requests(), eos_ids=[EOS], pad_id=0)


def test_answers_that_fail_the_check_are_not_kept(
    tiny_dir: Path, load: Callable[[], Any], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call is refused as well: kept answers would neither be sampled nor checked again."""
    monkeypatch.setattr("harness.answer.engine_policy.CHUNK", 2)
    cache = RowCache(tmp_path / "rows.sqlite")
    policy = Policy(perturb(load(), scale=0.3), tokenizer, "p", meter=Meter(Ledger()), cache=cache)
    for _ in range(2):
        engine = engine_of(tiny_dir)
        with pytest.raises(UserError, match="nats a token off those of transformers"):
            EnginePolicy.of(policy, engine, None).sample(requests())
        assert engine.answers == 2 and engine.asleep
    engine = engine_of(tiny_dir)
    rows_done: list[int] = []
    own = Policy(load(), tokenizer, "q", meter=Meter(Ledger()), cache=cache)
    answers = EnginePolicy.of(own, engine, None).sample(requests(), rows_done.append)
    assert rows_done == [2, 2, 2] and not engine.unchecked
    assert [a.ids for a in answers] == [a.ids for a in own.without_cache().sample(requests())]


def test_a_model_without_the_adapter_is_the_start_policy_and_is_not_saved(
    tiny_dir: Path, load: Callable[[], Any], tmp_path: Path
) -> None:
    engine, meter = engine_of(tiny_dir), Meter(Ledger())
    model = meter.attach(load())
    sampler = EngineSampler(engine, tmp_path / "engine", meter)
    start = sampler(model, requests(), eos_ids=[EOS], pad_id=0)
    assert engine.synced is None
    other = sampler(adapted(load()), requests(), eos_ids=[EOS], pad_id=0)
    assert engine.synced is not None and other != start
    assert sampler(model, requests(), eos_ids=[EOS], pad_id=0) == start


# Whole runs


def run_of(folder: Path, method: str, **changes: Any) -> Run:
    """A run of a method with one learning rate."""
    recipe = Recipe.model_validate(tiny_recipe(**SMALL | changes))
    (plan,) = make_runs(recipe, recipe.budget, [method], 1, ["preference"], Store(folder))
    return Run(plan, lambda kind, value: None)


def policy_of(folder: Path) -> dict[str, torch.Tensor]:
    (saved,) = folder.glob("stages/train-*/policy/adapter_model.safetensors")
    return load_file(saved)


def kinds(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("stages/*")}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sail-pr", "iterative-dpo"])
def test_a_run_with_the_engine_is_that_of_transformers(tmp_path: Path, method: str) -> None:
    """Pairs, search, rollouts and evaluation: the same policy up to rounding, under other keys; one engine."""
    run_of(tmp_path / "plain", method).work()
    run_of(tmp_path / "served", method, engine="vllm").work()
    expected, policy = policy_of(tmp_path / "plain"), policy_of(tmp_path / "served")
    for name, value in expected.items():
        torch.testing.assert_close(policy[name], value, rtol=0, atol=1e-4)
    (engine,) = StandInEngine.made
    assert engine.asleep and engine.answers > 100
    shared = kinds(tmp_path / "plain") & kinds(tmp_path / "served")
    assert {name.rsplit("-", 1)[0] for name in shared} == {"start"}
    assert not list((tmp_path / "served").glob("stages/train-*/engine"))


class CutError(Exception):
    """The process dies."""


@pytest.mark.slow
def test_a_run_cut_off_while_it_samples_goes_on_to_the_same_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the rollout of the third step; the next call goes on from a checkpoint."""
    options: dict[str, Any] = {"engine": "vllm", "method_options": {"sail-pr": {"share": 1.0}}}
    run_of(tmp_path / "whole", "sail-pr", **options).work("trial-0")
    cut = run_of(tmp_path / "cut", "sail-pr", **options)
    cut.work("shared")
    inner, calls = StandInEngine.sample, []

    def dying(self: StandInEngine, asked: Sequence[Request], eos_ids: Sequence[int]) -> list[Completion]:
        calls.append(len(asked))
        if len(calls) == 3:
            raise CutError
        return inner(self, asked, eos_ids)

    monkeypatch.setattr(StandInEngine, "sample", dying)
    with pytest.raises(CutError):
        cut.work("trial-0")
    monkeypatch.setattr(StandInEngine, "sample", inner)
    assert list((tmp_path / "cut").glob("work/train-*/checkpoints/checkpoint-*/ledger.json"))
    run_of(tmp_path / "cut", "sail-pr", **options).work("trial-0")
    expected, policy = policy_of(tmp_path / "whole"), policy_of(tmp_path / "cut")
    assert all(torch.equal(policy[name], value) for name, value in expected.items())


def test_only_what_is_sampled_depends_on_the_engine() -> None:
    """Sampled pairs, the search and what samples in training have other keys; a method that does not has not."""
    recipes = [Recipe.model_validate(tiny_recipe(engine=name)) for name in ("transformers", "vllm")]
    start, pairs, point = Stage("start", {}), Stage("pairs", {}), Point(1e-3)

    def same(key: Callable[[Recipe], str]) -> bool:
        return key(recipes[0]) == key(recipes[1])

    def trained(name: str) -> Callable[[Recipe], str]:
        budget = Budget("b", "pairs", 16)
        return lambda r: train_stage(Training(r, budget, start, pairs, (), ()), make_method(r, name), point, 0).key

    assert not same(lambda r: pairs_stage(r, start, {"oracle": "constraints", "version": 1}).key)
    assert not same(lambda r: tune_stage(r, start).key)
    names = ("dpo", "sail-dp", "sail-pr", "sail-pp", "online-dpo", "iterative-dpo", "spin")
    assert [name for name in names if same(trained(name))] == ["dpo", "sail-dp"]
