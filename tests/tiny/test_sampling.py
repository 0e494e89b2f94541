"""The sampler: exact law, kept ids, EOS scored once, rows independent of their batch."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from sail.prefill import Prefilled, common_prefix, prefill
from sail.sampling import BLOCK, _blocks, _invert, pick, sample
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


def weights_with_zeros() -> dict[str, torch.Tensor]:
    """Rows of five blocks whose zeros lie where an index could slip onto them."""
    drawn = torch.rand(5 * BLOCK, generator=torch.Generator().manual_seed(1)).pow(20) + 1e-30
    rows = {name: drawn.clone() for name in ("begin", "middle", "end", "blocks", "scattered", "one", "equal", "spread")}
    rows["begin"].view(5, BLOCK)[:, :7] = 0
    rows["middle"].view(5, BLOCK)[:, 50:60] = 0
    rows["end"].view(5, BLOCK)[:, -9:] = 0
    rows["blocks"].view(5, BLOCK)[[0, 2, 4]] = 0
    rows["scattered"][torch.arange(5 * BLOCK) % 3 > 0] = 0
    rows["one"] *= torch.arange(5 * BLOCK) == 2 * BLOCK + 3
    rows["equal"] = 0.1 * (torch.arange(5 * BLOCK) % BLOCK % 2 == 1)  # sums of 0.1 round
    rows["spread"] = 10.0 ** -torch.arange(5 * BLOCK).div(20).float()
    return rows | {"short": rows["begin"][: BLOCK + 30]}


def edge_noise(weights: torch.Tensor) -> list[float]:
    """0, the largest uniform, and what lies on the borders of tokens and blocks and directly beside them."""
    shares = (weights.double().cumsum(0) / weights.double().sum())[:: BLOCK // 4].tolist()
    shares += _blocks(weights[None]).sum(-1)[0].double().cumsum(0).div(weights.double().sum()).tolist()
    near = [float(np.nextafter(share, side)) for share in shares for side in (0, 1)]
    return [0.0, 5e-324, 2.0**-53, 1 - 2.0**-53, *[share for share in (*shares, *near) if share < 1]]


@pytest.mark.parametrize("name", list(weights_with_zeros()))
def test_no_token_of_weight_zero_is_drawn(name: str) -> None:
    """At noise on and beside every border; elsewhere the token is that of exact fractions."""
    weights = weights_with_zeros()[name]
    edges = list(accumulate(map(Fraction, weights.tolist())))
    others = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    noise = torch.cat([torch.tensor(edge_noise(weights), dtype=torch.float64), others])
    drawn = _invert(_blocks(weights.repeat(len(noise), 1)), noise).tolist()
    for share, token in zip(noise.tolist(), drawn, strict=True):
        assert token < len(weights) and weights[token] > 0
        target, slack = Fraction(share) * edges[-1], edges[-1] / 10**6  # float32 sums of blocks
        assert (edges[token - 1] if token else 0) - slack <= target <= edges[token] + slack


def test_the_inversion_follows_the_distribution() -> None:
    """The share of a fine grid of noise that each token gets is its weight."""
    weights = torch.rand(3 * BLOCK - 40, generator=torch.Generator().manual_seed(2)).pow(3)
    weights[torch.arange(len(weights)) % 5 == 0] = 0
    count = 100_000
    noise = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = torch.cat([_invert(_blocks(weights.expand(len(n), -1)), n) for n in noise.split(20_000)])
    shares = drawn.bincount(minlength=len(weights)).double() / count
    torch.testing.assert_close(shares, weights.double() / weights.double().sum(), atol=2.1 / count, rtol=0)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_pick_gives_finite_log_probabilities_at_edge_noise(temperature: float) -> None:
    """With impossible tokens at the end, where the last noise falls, at any temperature."""
    logits = torch.linspace(0, -110, 3 * BLOCK)  # weights that underflow
    logits[-BLOCK - 5 :] = -torch.inf
    noise = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    chosen, logps = pick(logits.repeat(2, 1), noise, torch.full((2,), temperature))
    assert chosen[0] == 0 and chosen[1] < 2 * BLOCK - 5
    torch.testing.assert_close(logps, logits.log_softmax(-1)[chosen])


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


@pytest.mark.parametrize("shared", [False, True])
def test_a_model_that_other_processes_share_samples_without_inference_mode_or_steady_layers(
    load: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """FSDP gathers weights in a forward, in place of those of the layers, and trains with them later."""
    seen = []
    model = load()
    model.lm_head.steady_forward = lambda: seen.append("steady")

    def read(*given: Any) -> Prefilled:
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return prefill(*given)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: shared)
    sample(model, requests(1, 2), eos_ids=[3], pad_id=1, read=read)
    assert seen == ([(False, False)] if shared else ["steady", (False, True)])
