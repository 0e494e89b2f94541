"""Sampling and scoring equal plain forwards where a window, chunks or places of attention could see the padding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from kit.random_models import PAD, WINDOW, answer_logps, plain_logps, random_ids, random_model

from harness.answer.policy import Policy
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from sail.sampling import sample
from sail.types import Request

NAMES = ["Llama", "GPT2", "Qwen3", "Gemma2", "Gemma3", "Mistral", "Phi3", "Qwen2", "Llama4", "Mpt"]
NEARNESS = 1e-5  # nats a token

PREFIX = random_ids(2 * WINDOW + 5, 1)
PROMPTS = [PREFIX + random_ids(n, n) for n in (3, 12, 45, 1)]
"""With a prefix beyond the window. The last two differ in length by more than the prefix has tokens."""

MIXED = [*PROMPTS, PREFIX, random_ids(5, 9)]
"""Without a prefix that all share."""

SOME_ENDS = list(range(3, 20))


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Any:
    return random_model(request.param)


def policy(model: Any) -> Policy:
    tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=2)
    return Policy(model, tokenizer, "random", meter=Meter(Ledger()), cache=None)


@pytest.mark.parametrize("prompts", [[*PROMPTS, PROMPTS[0], PROMPTS[1]], MIXED], ids=["shared", "mixed"])
def test_the_sampler_equals_a_plain_forward(model: Any, prompts: list[tuple[int, ...]]) -> None:
    requests = [Request(prompt, 32, 1.0, ("w", i)) for i, prompt in enumerate(prompts)]
    answers = sample(model, requests, eos_ids=SOME_ENDS, pad_id=PAD)
    assert len({len(answer.ids) for answer in answers}) > 2
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(answer.logps, answer_logps(model, request.prompt, answer.ids), atol=NEARNESS)


def test_scores_of_given_answers_equal_a_plain_forward(model: Any) -> None:
    rows = [(prompt, random_ids(n, n)) for prompt in MIXED for n in (1, 7, 40)]
    for (prompt, answer), logps in zip(rows, policy(model).token_logps(rows), strict=True):
        np.testing.assert_allclose(logps, answer_logps(model, prompt, answer), atol=NEARNESS)


@pytest.mark.parametrize("contexts", [PROMPTS, MIXED], ids=["shared", "mixed"])
def test_scores_of_next_tokens_equal_a_plain_forward(model: Any, contexts: list[tuple[int, ...]]) -> None:
    for context, logps in zip(contexts, policy(model).next_token_logps(contexts, [7, 8, 9]), strict=True):
        np.testing.assert_allclose(logps, plain_logps(model, context)[-1, [7, 8, 9]].numpy(), atol=NEARNESS)


def test_scores_of_continuations_equal_a_plain_forward(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.answer.continuations.MIN_SAVED_TOKENS", WINDOW)  # the prefix is cached
    rows = [(prompt, random_ids(n, n)) for prompt in MIXED for n in (1, 2, 20)]
    for (prompt, answer), scored in zip(rows, policy(model).continuation_logps(rows, batch_size=5), strict=True):
        expected = sum(answer_logps(model, prompt, answer))
        assert scored.logp == pytest.approx(expected, abs=len(answer) * NEARNESS)


@pytest.mark.parametrize("name", ["Gemma2", "Gemma3", "Mistral", "Phi3", "Qwen2"])
def test_the_windows_of_these_models_are_seen(name: str) -> None:
    """Else the tests above would show nothing: without its window a model gives the same ids other probabilities."""
    here, wide = (plain_logps(random_model(name, sliding_window=n), PROMPTS[0]) for n in (WINDOW, 256))
    assert torch.equal(here[: WINDOW // 2], wide[: WINDOW // 2])
    assert (here - wide).abs().max() > 0.1
