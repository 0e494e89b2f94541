"""The cache with room: same keys and values as transformers' own, same answers, bounded batches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from sail import sampling
from sail.kvcache import LEAST_ROOM, GrowingLayer, with_room
from sail.sampling import batches, sample
from sail.types import Request


def states(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, length, 4), torch.randn(rows, 2, length, 4)


def test_appending_selecting_and_repeating_equal_dynamic_cache() -> None:
    torch.manual_seed(0)
    plain, roomy = DynamicCache(), DynamicCache()
    for layer in range(2):
        first = states(5, 9)
        plain.update(*first, layer)
        roomy.update(*first, layer)
    roomy = with_room(roomy)
    assert all(type(layer) is GrowingLayer for layer in roomy.layers)
    rows, copies = 5, set()
    for at in range(3 * LEAST_ROOM):
        for layer in range(2):
            new = states(rows, 1)
            for ours, theirs in zip(roomy.update(*new, layer), plain.update(*new, layer), strict=True):
                assert torch.equal(ours, theirs)
        copies.add(roomy.layers[0].keys.untyped_storage().data_ptr())
        if at in (3, 70):
            keep = torch.tensor([0, 2, 3] if at == 3 else [1, 0])
            plain.batch_select_indices(keep)
            roomy.batch_select_indices(keep)
            rows = len(keep)
        assert roomy.get_seq_length() == plain.get_seq_length() == 10 + at
        assert roomy.get_mask_sizes(1, 0) == plain.get_mask_sizes(1, 0)
    assert len(copies) <= 6  # not one a token
    plain.batch_repeat_interleave(3)
    roomy.batch_repeat_interleave(3)
    new = states(6, 2)
    for ours, theirs in zip(roomy.update(*new, 1), plain.update(*new, 1), strict=True):
        assert torch.equal(ours, theirs)


def test_other_kinds_of_layers_are_left_alone() -> None:
    from transformers import LlamaConfig, StaticCache

    config = LlamaConfig(num_hidden_layers=2, num_attention_heads=2, hidden_size=8)
    cache = StaticCache(config=config, max_cache_len=8)
    kinds = [type(layer) for layer in cache.layers]
    assert [type(layer) for layer in with_room(cache).layers] == kinds


def test_greedy_past_the_first_room_equals_transformers(load: Callable[[], Any]) -> None:
    model, tokens = load(), LEAST_ROOM + 20
    prompts = [tuple(range(10, 10 + n)) for n in (5, 12, 30)]
    ours = sample(model, [Request(p, tokens, 0.0, ("g", p)) for p in prompts], eos_ids=[300], pad_id=1)
    for prompt, answer in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, eos_token_id=None
        )
        assert list(answer.ids) == theirs[0, len(prompt) :].tolist()


def test_batches_keep_within_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "CACHE_TOKENS", 100)
    lengths = [3, 3, 4, 9, 20, 21, 22, 90, 200]
    requests = [Request((1,) * n, most, 1.0, (n, most)) for most in (5, 10) for n in lengths]
    split = list(batches(range(len(requests)), requests, 4))
    assert [i for rows in split for i in rows] == list(range(len(requests)))
    for rows in split:
        width = max(len(requests[i].prompt) + requests[i].max_new_tokens for i in rows)
        assert len({requests[i].max_new_tokens for i in rows}) == 1
        assert len(rows) == 1 or (len(rows) <= 4 and len(rows) * width <= 100)
    for rows, after in pairwise(split):  # none could have taken one more
        nxt = requests[after[0]]
        same = nxt.max_new_tokens == requests[rows[0]].max_new_tokens
        width = max(len(requests[i].prompt) + requests[i].max_new_tokens for i in [*rows, after[0]])
        assert not same or len(rows) == 4 or (len(rows) + 1) * width > 100


def test_small_batches_give_the_same_answers(load: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(tuple(range(10, 10 + n)), 12, 1.0, ("s", n)) for n in (5, 9, 14, 30)]
    whole = sample(load(), requests, eos_ids=[3], pad_id=1)
    monkeypatch.setattr(sampling, "CACHE_TOKENS", 30)
    assert [a.ids for a in sample(load(), requests, eos_ids=[3], pad_id=1)] == [a.ids for a in whole]
