"""Lower blocks that policies share: no number depends on who computed them, or on whether they are kept at all."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from kit.random_models import PAD, answer_logps, random_ids, random_model
from kit.training import perturb
from peft import LoraConfig, get_peft_model

from harness.answer import load
from harness.answer.held_models import HeldModels
from harness.answer.load import Loading, shared_blocks, unchanged_blocks
from harness.answer.lower_blocks import LowerBlocks
from harness.answer.policy import Policy
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.recipe.train import LoraSpec, Precision
from harness.store.tensor_cache import TensorCache
from harness.train.settings import lora_config
from sail.types import Request

BLOCKS = 4
EXAMPLES, HEAD = random_ids(70, 1), random_ids(9, 2)
QUESTIONS = [EXAMPLES + random_ids(n, n) for n in (3, 12, 5, 8, 20, 1)]
ROWS = [
    *((question, random_ids(n, n)) for question in QUESTIONS for n in (1, 6)),
    *((HEAD + random_ids(n, n), random_ids(7, n)) for n in (4, 11)),
]
"""A family with a shared prefix, and prompts that share little."""


def adapted(model: Any, blocks: list[int], seed: int = 1, **options: Any) -> Any:
    """A copy with an adapter on some blocks, whose effect is large."""
    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], layers_to_transform=blocks, **options)
    policy = get_peft_model(deepcopy(model), config)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.3)
    return policy


class Scorer:
    """A policy with the lowest blocks of the start policy, in the state of a fresh process."""

    def __init__(self, model: Any, blocks: int | None, folder: Path, limit: int = 2**20) -> None:
        self.meter, self.seconds, self.model = Meter(Ledger()), list[float](), model
        tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=2)
        lower = None
        if blocks is not None:
            own = list(model.model.layers[:blocks])
            lower = LowerBlocks(model, own, "start", TensorCache(folder, limit), self.seconds.append)
        self.policy = Policy(model, tokenizer, "random", meter=self.meter, cache=None, lower=lower)
        self.computed = 0  # passes through the lowest block

    def __call__(self, ask: Callable[[Policy], Any] = lambda policy: policy.continuation_logps(ROWS, 1)) -> Any:
        def count(*args: Any) -> None:
            self.computed += 1

        hook = self.model.model.layers[0].self_attn.q_proj.register_forward_hook(count)
        with self.meter.phase("eval"):
            scores = ask(self.policy)
        hook.remove()
        assert not any("forward" in vars(block) for block in self.model.model.layers)
        return scores

    @property
    def spent(self) -> dict[str, float]:
        return {quantity: n for quantity, n in self.meter.ledger.entries["eval"].items() if quantity != "seconds"}


@pytest.fixture(scope="module", params=["Llama", "Qwen2"])
def start(request: pytest.FixtureRequest) -> Any:
    return random_model(request.param, num_hidden_layers=BLOCKS)


@pytest.fixture(scope="module")
def policy(start: Any) -> Any:
    return adapted(start, [3]).merge_and_unload().eval()


PROBE = 2
"""Passes by which a policy's lower blocks are tried."""


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("first", ["start", "policy"])
def test_scores_and_costs_are_the_same_in_any_order(
    start: Any, policy: Any, blocks: int, first: str, tmp_path: Path
) -> None:
    models = [start, policy] if first == "start" else [policy, start]
    plain = [Scorer(model, None, tmp_path) for model in models]
    shared = [Scorer(model, blocks, tmp_path) for model in models]
    whole, ours = [scorer() for scorer in plain], [scorer() for scorer in shared]
    assert ours == whole and ours[0] != ours[1]
    assert shared[0].computed == plain[0].computed + PROBE and shared[1].computed == PROBE
    assert [s.spent for s in shared] == [p.spent for p in plain]
    assert not shared[0].seconds and len(shared[1].seconds) > 1 and min(shared[1].seconds) > 0
    for (prompt, answer), score in zip(ROWS, ours[1], strict=True):
        np.testing.assert_allclose(score.logp, sum(answer_logps(models[1], prompt, answer)), atol=1e-4)


def test_next_tokens_are_scored_with_what_is_kept(start: Any, policy: Any, tmp_path: Path) -> None:
    def ask(asked: Policy) -> Any:
        return asked.next_token_logps(QUESTIONS, [7, 8, 9], 4)

    plain, scorers = Scorer(policy, None, tmp_path), [Scorer(model, 3, tmp_path) for model in (start, policy)]
    assert [scorer(ask) for scorer in scorers][1] == plain(ask)
    assert scorers[1].computed == PROBE and scorers[1].spent == plain.spent


def test_prompts_are_read_once_for_all_samples(start: Any, policy: Any, tmp_path: Path) -> None:
    """Two batches; the second policy passes all prompts by, and no token or log-probability changes."""
    requests = [Request(question, 12, 1.0, f"{i}") for i, question in enumerate(QUESTIONS)]

    def ask(asked: Policy) -> Any:
        asked._batch_size = 4
        return asked.sample(requests, shared=True)

    models = [start, policy]
    plain = [Scorer(model, None, tmp_path) for model in models]
    shared = [Scorer(model, 3, tmp_path) for model in models]
    whole, ours = [scorer(ask) for scorer in plain], [scorer(ask) for scorer in shared]
    assert ours == whole and ours[0] != ours[1]
    batches = 2 * 2  # passes of the shared prefix and of the rest
    assert shared[0].computed == plain[0].computed + PROBE and shared[1].computed == plain[1].computed + PROBE - batches
    assert [s.spent for s in shared] == [p.spent for p in plain]
    assert not shared[0].seconds and len(shared[1].seconds) == 2


def test_of_answers_of_one_policy_the_prompts_alone_are_kept(start: Any, tmp_path: Path) -> None:
    """What start says of the answers of two policies: other answers to the same prompts."""
    asked = [[(prompt, random_ids(len(answer), seed)) for prompt, answer in ROWS] for seed in (1, 2)]
    plain, scorer = Scorer(start, None, tmp_path), Scorer(start, 3, tmp_path)
    passes = [0]
    for rows in asked:
        whole = plain(lambda policy, rows=rows: policy.continuation_logps(rows, 4))
        ours = scorer(lambda policy, rows=rows: policy.asked_by("another").continuation_logps(rows, 4))
        assert ours == whole
        passes.append(scorer.computed)
    first, second = passes[1], passes[2] - passes[1]
    assert first == plain.computed // 2 + PROBE and second < plain.computed // 2
    assert scorer.seconds and scorer.spent == plain.spent


def test_texts_that_nobody_shares_are_not_kept(start: Any, tmp_path: Path) -> None:
    scorer = Scorer(start, 3, tmp_path)
    scorer(lambda policy: policy.without_cache().continuation_logps(ROWS))
    scorer(lambda policy: policy.asked_by("another").next_token_logps(QUESTIONS, [7, 8, 9], 4))
    assert len(list(tmp_path.iterdir())) <= 1  # of the trial


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def turn_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "number"), [(cut, 0), (turn_a_bit, 1), (Path.unlink, 0), (Path.unlink, 1), (Path.unlink, 2)]
)
def test_a_damaged_file_costs_time_alone(
    start: Any, policy: Any, damage: Callable[[Path], Any], number: int, tmp_path: Path
) -> None:
    """Every third file, those of a prefix and those of batches that need it."""
    plain, last = Scorer(policy, None, tmp_path), Scorer(policy, 3, tmp_path)
    scores = plain()
    Scorer(start, 3, tmp_path)()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 4
    for file in files[number::3]:
        damage(file)
    scorer = Scorer(policy, 3, tmp_path)
    assert scorer() == scores and scorer.spent == plain.spent
    assert sorted(tmp_path.iterdir()) == files
    assert last() == scores and last.computed == PROBE, "damaged files were written anew"


def test_nothing_more_is_kept_in_a_full_cache(start: Any, policy: Any, tmp_path: Path) -> None:
    Scorer(start, 3, tmp_path / "whole")()
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "whole").iterdir()}
    limit = sum(sizes.values()) // 2
    for model in (start, policy):
        assert Scorer(model, 3, tmp_path / "part", limit)() == Scorer(model, None, tmp_path)()
    kept = {file.name: file.stat().st_size for file in (tmp_path / "part").iterdir()}
    assert 0 < len(kept) < len(sizes) and kept.items() <= sizes.items() and sum(kept.values()) <= limit


def test_lower_blocks_that_differ_are_not_shared(start: Any, tmp_path: Path) -> None:
    """Of a policy that changed more than the names of its weights say."""
    other = deepcopy(start)
    other.model.layers[1].mlp.up_proj.weight.data *= 1.01
    Scorer(start, 3, tmp_path)()
    scorer, plain = Scorer(other, 3, tmp_path), Scorer(other, None, tmp_path)
    assert scorer() == plain() != Scorer(start, None, tmp_path)()
    assert scorer.computed == plain.computed + PROBE


NAMES = ["Llama", "GPT2", "Qwen3", "Gemma2", "Gemma3", "Mistral", "Phi3", "Qwen2", "Llama4", "Mpt"]


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_gives_its_own_scores(name: str, tmp_path: Path) -> None:
    """With lower blocks where they can be passed by, and whole where not: Mpt's blocks give more than hidden states,
    and GPT-2's take the key-value cache by its place."""
    model, cache = random_model(name), TensorCache(tmp_path)
    stack = next(part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    scores = []
    for blocks in (None, stack[:1], stack[:1]):
        lower = None if blocks is None else LowerBlocks(model, list(blocks), name, cache, lambda seconds: None)
        tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=2)
        policy = Policy(model, tokenizer, name, meter=Meter(Ledger()), cache=None, lower=lower)
        scores.append(policy.continuation_logps(ROWS, 4))
    assert scores[0] == scores[1] == scores[2]
    assert bool(list(tmp_path.iterdir())) == (name not in ("GPT2", "Mpt"))


def test_which_blocks_a_saved_policy_shares(start: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """By the weights that PEFT saved."""

    def saved(name: str, model: Any) -> Path:
        model.save_pretrained(tmp_path / name)
        return tmp_path / name

    def shared(folder: Path | None, top: int) -> int:
        return len(shared_blocks(start, folder, top))

    base = saved("start", start)
    top = saved("top", adapted(start, [2, 3]))
    whole = saved("all", adapted(start, [0, 1, 2, 3]))
    embeddings = saved("embeddings", adapted(start, [2, 3], modules_to_save=["embed_tokens"]))
    biases = saved("biases", adapted(start, [2, 3], bias="all"))
    assert [unchanged_blocks(f) for f in (top, whole, embeddings, biases, base)][:3] == [2, 0, 0]
    assert unchanged_blocks(base) == 0, "a whole model"
    assert unchanged_blocks(biases) == (0 if start.config.model_type == "qwen2" else 2), "Llama has none"
    assert shared(None, 2) == shared(top, 2) == 0, "too small"
    monkeypatch.setattr(load, "MIN_WEIGHTS", 1)
    assert (shared(None, 2), shared(top, 2), shared(top, 3), shared(top, 1)) == (2, 2, 1, 0)
    assert [shared(None, 0), shared(whole, 1), shared(embeddings, 2), shared(base, 2)] == [0, 0, 0, 0]
    monkeypatch.setattr(load, "device", lambda: "cuda")
    assert shared(None, 2) == 0


@pytest.mark.parametrize("precision", ["float32", "bf16-mixed"])
def test_policies_of_a_run_share_blocks(precision: Precision, tmp_path: Path, monkeypatch: Any) -> None:
    """An adapter merged into a copy, and one beside the weights of the start policy, on the block that a recipe adapts.

    A third policy keeps the adapter on all blocks, whose wrappers stay in the shared model.
    """
    monkeypatch.setattr(load, "MIN_WEIGHTS", 1)
    model = random_model("Llama", num_hidden_layers=BLOCKS)
    model.save_pretrained(tmp_path / "start")
    for name, layers in (("top", 1), ("all", 0)):
        config = lora_config(LoraSpec(r=2, layers=layers), model)
        perturb(get_peft_model(deepcopy(model), config), scale=0.3).save_pretrained(tmp_path / name)
    models, cache = HeldModels(tmp_path / "start", Loading(precision)), TensorCache(tmp_path / "cache")
    tokenizer, meter = SimpleNamespace(pad_token_id=PAD, eos_token_id=2), Meter(Ledger())
    held = {"start": models.start(), **{name: models.trained(tmp_path / name) for name in ("all", "top")}}
    results, hits = {}, list[float]()
    for name, policy in held.items():
        blocks = shared_blocks(policy.model, None if name == "start" else tmp_path / name, 1)
        assert len(blocks) == (0 if name == "all" else 3)
        lower = LowerBlocks(policy.model, blocks, precision, cache, hits.append) if blocks else None
        ours, plain = (
            Policy(policy, tokenizer, name, meter=meter, cache=None, lower=option).continuation_logps(ROWS, 4)
            for option in (lower, None)
        )
        assert ours == plain
        results[name] = tuple(ours)
        assert bool(hits) == (name == "top")
    assert len(set(results.values())) == 3
