"""The sampler: exact law, kept ids, EOS scored once, rows independent of their batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from sail.prefill import common_prefix
from sail.sampling import pick, sample
from sail.types import Request

PROMPTS = [tuple(range(10, 10 + n)) for n in (5, 12, 30, 5)]


def requests(count: int = 3, tokens: int = 12, temperature: float = 1.0) -> list[Request]:
    return [Request(p, tokens, temperature, ("t", i, k)) for i, p in enumerate(PROMPTS) for k in range(count)]


def teacher_forced(model: Any, prompt: tuple[int, ...], ids: tuple[int, ...]) -> list[float]:
    """Log-probabilities by one plain forward, without cache or padding."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0].float()
    logps = torch.log_softmax(logits, -1)
    return [logps[len(prompt) - 1 + t, token].item() for t, token in enumerate(ids)]


def test_logps_equal_a_plain_forward(load: Callable[[], Any]) -> None:
    model = load()
    for request, answer in zip(requests(), sample(model, requests(), eos_ids=[3], pad_id=1), strict=True):
        np.testing.assert_allclose(answer.logps, teacher_forced(model, request.prompt, answer.ids), atol=2e-4)


@pytest.mark.parametrize("batch_size", [1, 5, 7])
def test_rows_do_not_depend_on_their_batch(load: Callable[[], Any], batch_size: int) -> None:
    model = load()
    whole = sample(model, requests(), eos_ids=[3], pad_id=1, batch_size=64)
    split = sample(model, requests(), eos_ids=[3], pad_id=1, batch_size=batch_size)
    assert [a.ids for a in whole] == [a.ids for a in split]
    torch.manual_seed(99)
    assert [a.ids for a in sample(model, requests(), eos_ids=[3], pad_id=1)] == [a.ids for a in whole]


def test_generated_eos_is_kept_once_and_truncation_has_none(load: Callable[[], Any]) -> None:
    model = load()
    some_eos = list(range(0, 262, 20))
    answers = sample(model, requests(6, 20), eos_ids=some_eos, pad_id=1)
    assert {a.stopped for a in answers} == {True, False}
    for answer in answers:
        ends = [t in some_eos for t in answer.ids]
        assert ends[-1] is answer.stopped
        assert not any(ends[:-1])
        assert answer.stopped or len(answer.ids) == 20
        assert len(answer.logps) == len(answer.ids)


def test_greedy_equals_transformers(load: Callable[[], Any]) -> None:
    model = load()
    for request in requests(1, 10, temperature=0.0):
        ours = sample(model, [request], eos_ids=[300], pad_id=1)[0]
        prompt = torch.tensor([request.prompt])
        theirs = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=10, do_sample=False, eos_token_id=None
        )
        assert list(ours.ids) == theirs[0, prompt.shape[1] :].tolist()


def test_pick_follows_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).repeat(20000, 1)
    noise = torch.rand(20000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen, logp = pick(logits, noise, torch.ones(20000))
    expected = torch.softmax(logits[0].double(), -1).numpy() * 20000
    assert stats.chisquare(np.bincount(chosen.numpy(), minlength=4), expected).pvalue > 1e-3
    torch.testing.assert_close(logp, torch.log_softmax(logits, -1)[torch.arange(20000), chosen])


def test_pick_never_takes_an_impossible_token() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).repeat(3, 1)
    chosen, _ = pick(logits, torch.tensor([0.0, 0.5, 1 - 1e-16], dtype=torch.float64), torch.ones(3))
    assert chosen.tolist() == [1, 1, 1]


def test_finished_answers_go_out_batch_by_batch(load: Callable[[], Any]) -> None:
    seen: list[int] = []
    sample(load(), requests(), eos_ids=[3], pad_id=1, batch_size=5, on_rows=lambda rows, batch: seen.extend(rows))
    assert sorted(seen) == list(range(12))


def test_common_prefix() -> None:
    assert common_prefix([(1, 2, 3, 4), (1, 2, 5)]) == 2
    assert common_prefix([(1, 2, 3), (1, 2, 3)]) == 2  # the last token is always left to be decoded
    assert common_prefix([(7,), (7, 8)]) == 0


def test_no_eos_is_refused(load: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="end-of-sequence"):
        sample(load(), requests(1), eos_ids=[], pad_id=1)
