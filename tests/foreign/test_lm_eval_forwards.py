"""Our forwards against those of lm-eval's own model class, request by request."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.questions import Writer, policy

pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra lm-eval)")

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from benchmarks.lmeval.model import PolicyLM
from harness.answer.continuations import prompt_families
from harness.errors import UserError
from harness.store.row_cache import RowCache


@pytest.fixture
def model(load: Callable[[], Any]) -> Any:
    return load()


@pytest.fixture
def short(model: Any) -> Any:
    """The model, said to take 512 tokens."""
    model.config.max_position_embeddings = 512
    return model


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, a, i, metadata=("t", i, 1)) for i, a in enumerate(arguments)]


def asked_pairs() -> list[tuple[str, str]]:
    """Letters after shared examples, options of several tokens, trailing spaces, no context, too long a context."""
    say = Writer(1)
    pairs = []
    for _ in range(3):
        shots = say(50, 60)
        pairs += [(f"{shots} {q}\nAnswer:", f" {o}") for q in (say(2, 9) for _ in range(7)) for o in "ABCD"]
    for _ in range(5):
        text = f"{say(5, 80)}\nAnswer: "
        pairs += [(text, say(1, 4)) for _ in range(4)]
    return [*pairs, ("", "hello there"), ("", "<|end|>x"), (say(120, 120), f" {say(3, 3)}"), (say(130, 130), say(9, 9))]


def test_loglikelihoods_equal_those_of_lm_eval(short: Any, tokenizer: Any, tmp_path: Path) -> None:
    model, requests = short, instances("loglikelihood", asked_pairs())
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8).loglikelihood(requests, disable_tqdm=True)
    kept = RowCache(tmp_path / "rows.sqlite")
    first = policy(model, tokenizer, kept)
    ours = PolicyLM(first, 6).loglikelihood(requests, disable_tqdm=True)
    np.testing.assert_allclose([v for v, _ in ours], [v for v, _ in theirs], atol=1e-4)
    assert [g for _, g in ours] == [g for _, g in theirs]
    spent = first.meter.ledger.get("reference", "tokens") + first.meter.ledger.get("generate", "tokens")
    whole = sum(min(512, len(tokenizer.encode("".join(r.args)))) for r in requests)
    assert spent < whole / 2  # what is shared is computed once
    again = policy(model, tokenizer, kept)
    assert PolicyLM(again, 6).loglikelihood(requests, disable_tqdm=True) == ours
    assert again.meter.ledger.entries == {}  # kept rows cost nothing


def test_a_window_is_not_widened_by_what_is_shared(tokenizer: Any) -> None:
    """Prompts of several lengths after a shared beginning, on layers that see 40 tokens."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = MistralConfig(vocab_size=len(tokenizer), sliding_window=40, initializer_range=0.3, **sizes, **heads)
    model, rng = MistralForCausalLM(config).eval(), random.Random(5)

    def ids(count: int) -> list[int]:
        return [rng.randrange(5, len(tokenizer)) for _ in range(count)]

    shots = ids(120)
    requests = [(None, p, ids(n)) for p in ([*shots, *ids(k)] for k in (3, 5, 25, 60)) for n in (1, 1, 3)]
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    expected = plain._loglikelihood_tokens(requests, disable_tqdm=True)
    ours = PolicyLM(policy(model, tokenizer), 8)._loglikelihood_tokens(requests)
    np.testing.assert_allclose([v for v, _ in ours], [v for v, _ in expected], atol=1e-4)


def test_what_greedy_decoding_gives_is_known(model: Any, tokenizer: Any) -> None:
    prompt = tokenizer.encode("alpha beta")
    likely = model.generate(torch.tensor([prompt]), max_new_tokens=4, min_new_tokens=4, do_sample=False)[0].tolist()
    tail = likely[len(prompt) :]
    requests = [(None, prompt, tail[:n]) for n in (1, 2, 4)] + [(None, prompt, [*tail[:2], tail[2] ^ 1])]
    ours = PolicyLM(policy(model, tokenizer), 2)._loglikelihood_tokens(requests)
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    expected = plain._loglikelihood_tokens(requests, disable_tqdm=True)
    assert [g for _, g in ours] == [g for _, g in expected] == [True, True, True, False]
    np.testing.assert_allclose([v for v, _ in ours], [v for v, _ in expected], atol=1e-4)


def test_perplexities_and_answers_equal_those_of_lm_eval(short: Any, tokenizer: Any, tmp_path: Path) -> None:
    say, model = Writer(2), short
    theirs, kept = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3), RowCache(tmp_path / "rows.sqlite")
    ours = PolicyLM(policy(model, tokenizer, kept), 4)
    texts = instances("loglikelihood_rolling", [(say(n, n),) for n in (1, 40, 240)])  # the last needs two windows
    expected = theirs.loglikelihood_rolling(texts, disable_tqdm=True)
    assert ours.loglikelihood_rolling(texts, disable_tqdm=True) == pytest.approx(expected, rel=1e-6)
    settings: list[dict[str, Any]] = [{"until": ["a"], "max_gen_toks": 9}, {"until": [], "max_gen_toks": 5}]
    questions = instances("generate_until", [(say(1, 12), settings[i % 2]) for i in range(11)])
    expected = theirs.generate_until(questions, disable_tqdm=True)
    assert ours.generate_until(questions) == expected
    again = policy(model, tokenizer, kept)
    assert PolicyLM(again, 4).generate_until(questions) == expected
    assert again.meter.ledger.entries == {}


def test_families_share_what_is_worth_sharing() -> None:
    few = [(*range(100), 900 + i) for i in range(2)]  # saves 100 tokens: not worth a batch of its own
    many = [(*range(500, 600), 900 + i, *range(i)) for i in range(5)]
    families = prompt_families([*few, *many, (1, 2), *many])
    assert [(f.shared, sorted(f.prompts)) for f in families] == [(100, sorted(many)), (0, sorted([*few, (1, 2)]))]
    assert [len(p) for p in families[0].prompts] == sorted(len(p) for p in many)


def test_answers_are_given_room_and_what_is_cut_is_counted(short: Any, tokenizer: Any) -> None:
    texts = instances("generate_until", [(Writer()(n, n), {"until": [], "max_gen_toks": 40}) for n in (3, 200, 150)])
    short.config.max_position_embeddings = 512
    lm = PolicyLM(policy(short, tokenizer), 2)
    lm.generate_until(texts)
    lengths = {("t", i): len(tokenizer.encode(r.args[0])) for i, r in enumerate(texts)}
    assert lm.cut == {key: length + 40 - 512 for key, length in lengths.items() if length + 40 > 512}
    assert set(lm.cut) == {("t", 1), ("t", 2)}


def test_an_option_longer_than_the_window_is_reported(short: Any, tokenizer: Any) -> None:
    lm = PolicyLM(policy(short, tokenizer), 2)
    lm.loglikelihood(instances("loglikelihood", [("a", "b" * 512)]), disable_tqdm=True)
    with pytest.raises(UserError, match="has 513 tokens, but the model takes 1 to 512: leave its question out"):
        lm.loglikelihood(instances("loglikelihood", [("a", "b" * 513)]), disable_tqdm=True)
    with pytest.raises(UserError, match="has 0 tokens"):
        lm.loglikelihood(instances("loglikelihood", [("a", "")]), disable_tqdm=True)
