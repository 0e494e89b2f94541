"""vLLM against transformers on the same weights; needs vLLM (nox -s vllm), skipped elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit.random_models import answer_logps, plain_logps
from kit.served_model import VLLM_OPTIONS, save_served_model
from kit.training import EOS, perturb
from peft import LoraConfig, get_peft_model
from scipy.stats import chi2

from harness.answer.engine_policy import EnginePolicy, EngineSampler
from harness.answer.load import Loading, autocast, load_model, load_tokenizer, without_input_casts
from harness.answer.policy import Policy
from harness.answer.rollout_engine import EngineSettings, RolloutEngine, make_engine
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.recipe.train import LoraSpec
from harness.store.row_cache import RowCache
from sail.types import Completion, Request

pytest.importorskip("vllm", reason="vLLM is not installed: python -m nox -s vllm")
pytestmark = pytest.mark.slow

LORA = LoraSpec(r=4, alpha=8)
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_served_model(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def make(start: Path) -> Iterator[Callable[..., RolloutEngine]]:
    """Engines of the small model, by whether adapters are trained and by dtype; one at a time."""
    made: dict[Any, RolloutEngine] = {}

    def inner(lora: LoraSpec | None, dtype: str = "float32") -> RolloutEngine:
        if (lora, dtype) not in made:
            for engine in made.values():
                engine.close()
            made.clear()
            made[lora, dtype] = make_engine("vllm", EngineSettings(start, dtype, lora, VLLM_OPTIONS))
        return made[lora, dtype]

    yield inner
    for engine in made.values():
        engine.close()


def requests(prompts: int = 4, answers: int = 3, temperature: float = 1.0) -> list[Request]:
    return [
        Request(tuple(range(65, 75 + p)), 16, temperature, ("x", p, k)) for p in range(prompts) for k in range(answers)
    ]


def drawn(engine: RolloutEngine, folder: Path | None, asked: list[Request]) -> list[Completion]:
    """As users of the engine do it: wake, sync, sample, sleep."""
    engine.wake()
    engine.sync(folder)
    answers = engine.sample(asked, [EOS])
    engine.sleep()
    return answers


def assert_of(model: Any, asked: list[Request], answers: list[Completion], limit: float = 1e-4) -> None:
    """The log-probabilities are the model's, by plain forwards."""
    for r, c in zip(asked, answers, strict=True):
        np.testing.assert_allclose(c.logps, answer_logps(model, r.prompt, c.ids), atol=limit)


def test_only_the_ids_that_are_given_end_an_answer(make: Callable[[Any], RolloutEngine]) -> None:
    """The end of sequence of tokenizer and generation configuration is a token like any other where it is not given."""
    engine, end = make(LORA), 70
    engine.wake()
    engine.sync(None)
    answers = engine.sample([Request(tuple(range(65, 75)), 16, 1.0, ("end", k)) for k in range(256)], [end])
    engine.sleep()
    assert any(EOS in c.ids[:-1] for c in answers)
    assert all(c.stopped == (c.ids[-1] == end) and end not in c.ids[:-1] for c in answers)


def test_pairs_of_tokens_follow_the_distribution_of_transformers(
    make: Callable[[Any], RolloutEngine], start: Path
) -> None:
    """Chi-square of 6,000 answers of two tokens against their exact probabilities, in 100 bins of equal mass."""
    prompt, count, bins = tuple(range(65, 80)), 6000, 100
    asked = [Request(prompt, 2, 1.0, ("law", k)) for k in range(count)]
    answers = drawn(make(LORA), None, asked)
    model = load_model(start)
    first = plain_logps(model, prompt)[-1].exp()
    joint = torch.stack([p * plain_logps(model, [*prompt, a])[-1].exp() for a, p in enumerate(first)])
    joint[EOS] = 0.0
    joint[EOS, 0] = first[EOS]  # it ends there
    order = joint.flatten().argsort()  # so that sampling at temperature 0.9 would be 152 above the mean of 99
    mass = joint.flatten()[order].double().cumsum(0)
    bin_of = torch.empty_like(order)
    bin_of[order] = (mass / mass[-1] * bins).ceil().sub(1).clamp(0, bins - 1).long()
    expected = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_of, joint.flatten().double()) * count
    cells = [c.ids[0] * joint.shape[1] + (c.ids[1] if len(c.ids) > 1 else 0) for c in answers]
    seen = torch.bincount(bin_of[torch.tensor(cells)], minlength=bins).double()
    statistic = float(((seen - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, bins - 1) > 1e-3
    assert chi2.sf(statistic, bins - 1) < 1 - 1e-6  # not the same draw again and again


def test_an_adapter_changes_the_answers_to_those_of_the_trained_model(
    make: Callable[[Any], RolloutEngine], start: Path, tmp_path: Path
) -> None:
    """Two steps of a model in training, a part of whose blocks is adapted; then the start policy again."""
    engine, meter, asked = make(LORA), Meter(Ledger()), requests()
    before = drawn(engine, None, asked)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=LINEARS, layers_to_transform=[1, 2], task_type="CAUSAL_LM")
    model = get_peft_model(meter.attach(load_model(start)), config)
    sampler, seen = EngineSampler(engine, tmp_path / "engine", meter), [before]
    for step in (1, 2):
        perturb(model, seed=step, scale=0.2)
        seen.append(sampler(model, asked, eos_ids=[EOS], pad_id=0))
        assert_of(model.eval(), asked, seen[-1])
    ids = [[c.ids for c in answers] for answers in seen]
    assert ids[0] != ids[1] != ids[2] != ids[0]
    assert drawn(engine, None, asked) == before
    assert engine.asleep
    assert meter.ledger.get("generate", "generated") == sum(len(c.ids) for group in seen[1:] for c in group)


def test_reloaded_weights_change_the_answers_to_those_of_the_trained_model(
    make: Callable[[Any], RolloutEngine], start: Path, tmp_path: Path
) -> None:
    """Full fine-tuning, the tied embeddings included."""
    engine, meter, asked = make(None), Meter(Ledger()), requests()
    before = drawn(engine, None, asked)
    model = perturb(meter.attach(load_model(start)), scale=0.05)
    sampler = EngineSampler(engine, tmp_path / "engine", meter)
    answers = sampler(model, asked, eos_ids=[EOS], pad_id=0)
    assert_of(model.eval(), asked, answers)
    assert [c.ids for c in answers] != [c.ids for c in before]
    assert drawn(engine, None, asked) == before


def test_a_float32_adapter_computes_in_bfloat16_as_in_training(
    make: Callable[..., RolloutEngine], start: Path, tmp_path: Path
) -> None:
    """Under ``precision: bf16``, on the mean of absolute differences. Measured, nats a token: 0.035 from training's
    autocast, 0.047 from an adapter that computes in float32, 1.7 from the start policy."""
    meter, asked = Meter(Ledger()), requests()
    config = LoraConfig(r=4, lora_alpha=8, target_modules=LINEARS, task_type="CAUSAL_LM")
    model = get_peft_model(meter.attach(load_model(start, None, Loading("bf16"))), config).eval()
    without_input_casts(perturb(model, seed=1, scale=0.2), "bf16")
    sampler = EngineSampler(make(LORA, "bfloat16"), tmp_path / "engine", meter)

    def apart() -> float:
        rows = [
            zip(c.logps, answer_logps(model, r.prompt, c.ids), strict=True) for r, c in zip(asked, answers, strict=True)
        ]
        return float(np.mean([abs(a - float(b)) for row in rows for a, b in row]))

    with autocast("bf16"):
        answers = sampler(model, asked, eos_ids=[EOS], pad_id=0)
        ours = apart()
        with model.disable_adapter():
            assert apart() > 0.5
    assert {weight.dtype for name, weight in model.named_parameters() if "lora_" in name} == {torch.float32}
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = True
    assert ours < apart() < 0.08


def test_the_engine_leaves_the_random_state_of_training_alone(make: Callable[[Any], RolloutEngine]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn(make(LORA), None, requests())
    assert torch.equal(torch.rand(3), expected)


def test_a_model_that_vllm_does_not_take_is_one_sentence(tiny_dir: Path) -> None:
    engine = make_engine("vllm", EngineSettings(tiny_dir, "float32", LORA, VLLM_OPTIONS))
    with pytest.raises(UserError, match="vLLM could not .*: change engine.options, or set engine: transformers"):
        drawn(engine, None, requests())
    engine.close()


# SmolLM2, whose answers are texts


@pytest.fixture(scope="module")
def smollm2(smollm2_start: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Policy, EnginePolicy]]:
    """In transformers and in the engine, with ledgers of their own."""
    tokenizer, model = load_tokenizer(smollm2_start), load_model(smollm2_start)
    plain = Policy(model, tokenizer, "p", meter=Meter(Ledger()), cache=None)
    cache = RowCache(tmp_path_factory.mktemp("cache") / "rows.sqlite")
    other = Policy(load_model(smollm2_start), tokenizer, "p", meter=Meter(Ledger()), cache=cache)
    engine = make_engine("vllm", EngineSettings(smollm2_start, "float32", LORA, VLLM_OPTIONS))
    yield plain, EnginePolicy.of(other, engine, None)
    engine.close()


def texts(policy: Policy, temperature: float, count: int = 1) -> list[Request]:
    turns = ["Name three rivers.", "What is 12 plus 30?", "Write a haiku about winter.", "Why is the sky blue?"]
    prompts = [policy.render([{"role": "user", "content": t}]) for t in turns]
    return [Request(t, 40, temperature, ("x", i, k)) for k in range(count) for i, t in enumerate(prompts)]


def test_greedy_texts_and_log_probabilities_equal(smollm2: tuple[Policy, EnginePolicy]) -> None:
    expected, answers = (p.sample(texts(smollm2[0], 0.0)) for p in smollm2)
    assert [c.ids for c in answers] == [c.ids for c in expected]
    assert [c.stopped for c in answers] == [c.stopped for c in expected]
    for a, b in zip(answers, expected, strict=True):
        np.testing.assert_allclose(a.logps, b.logps, atol=1e-3)
    ledgers = [p.meter.ledger for p in smollm2]
    assert ledgers[1].get("generate", "generated") == ledgers[0].get("generate", "generated")


def test_samples_are_scored_by_the_model_and_repeat(smollm2: tuple[Policy, EnginePolicy]) -> None:
    plain, served = smollm2
    asked = texts(plain, 1.0, count=8)
    sampled = served.sample(asked)
    assert len({c.ids for c in sampled}) > 24
    logps = plain.token_logps([(r.prompt, c.ids) for r, c in zip(asked, sampled, strict=True)])
    for c, expected in zip(sampled, logps, strict=True):
        np.testing.assert_allclose(c.logps, expected, atol=2e-3)
    spent = served.meter.ledger.get("generate", "generated")
    assert served.sample(asked) == sampled
    assert served.meter.ledger.get("generate", "generated") == spent  # kept, not sampled again
    assert [c.ids for c in served.without_cache().sample(asked)] == [c.ids for c in sampled]  # the same seeds
