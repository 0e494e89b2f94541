"""When prompts are shared: by the configuration, by the work that it saves, and how many tokens are computed then."""

from __future__ import annotations

import random
from itertools import takewhile
from typing import Any

import pytest

from harness.budget.flops import forward, shape_of_config
from harness.budget.forecast import Lengths, Spending, phases
from harness.recipe.train import TrainSpec
from harness.run.spending import with_sharing
from sail.prompt_rules import common_length, longest_shared, mask_fits, plain_because, sharing_pays

LLAMA: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 170,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 300,
}


@pytest.mark.parametrize(
    ("config", "attention", "reason"),
    [
        ({}, None, None),
        ({"sliding_window": None, "max_window_layers": 28, "use_sliding_window": False}, "sdpa", None),
        ({"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}, "eager", None),
        ({}, "flash_attention_2", "takes no mask"),
        ({}, "flex_attention", "takes no mask"),
        ({"layer_types": ["full_attention", "linear_attention"]}, None, "linear_attention"),
        ({"layer_types": ["chunked_attention"]}, None, "chunked_attention"),
        ({"attention_chunk_size": 8192}, None, "attention_chunk_size"),
        ({"window_size": 256, "model_type": "gpt_neo"}, None, "window_size"),
        ({"is_causal": False}, None, "not causal"),
        ({"output_router_logits": True}, None, "routers"),
        ({"text_config": {}, "vision_config": {}}, None, "something else"),
    ],
)
def test_what_a_configuration_says(config: dict[str, Any], attention: str | None, reason: str | None) -> None:
    given = plain_because(config, attention)
    assert given is None if reason is None else reason in str(given)


def test_a_window_counts_where_it_is_used() -> None:
    assert longest_shared({"sliding_window": 4096}) == 4096
    assert longest_shared({"sliding_window": 4096, "use_sliding_window": False}) is None
    assert longest_shared({}) is None


@pytest.mark.parametrize("hidden", [64, 576])
def test_sharing_pays_where_the_blocks_compute_less(hidden: int) -> None:
    """By the operations of a model whose blocks have 12 d^2 weights."""
    inner = 8 * hidden // 3
    shape = shape_of_config(LLAMA | {"hidden_size": hidden, "intermediate_size": inner}, None, 0)
    draw, seen = random.Random(0), set()
    for _ in range(200):
        prompt, answer = draw.randint(1, 900), draw.randint(1, 900)
        length, packed = prompt + answer, prompt + 2 * answer
        once, twice = forward(shape, 1, packed), forward(shape, 2, length)
        if abs(once / twice - 1) > 0.01:
            assert sharing_pays(length, packed, hidden) == (once < twice), (prompt, answer)
            seen.add(once < twice)
    assert seen == {True, False}
    assert mask_fits(4, 4096) and not mask_fits(4, 4097)


def pairs(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(3) for _ in range(draw.randint(low, high))]

    return [{"prompt_ids": ids(20, 40), "chosen_ids": ids(0, 15), "rejected_ids": ids(0, 15)} for _ in range(count)]


def test_lengths_count_what_two_rows_begin_with_once() -> None:
    """A batch of all pairs: its widths are the longest rows."""
    rows, cut = pairs(30), 45
    both = [[[*p["prompt_ids"], *p[s]][:cut] for s in ("chosen_ids", "rejected_ids")] for p in rows]
    common = [len(list(takewhile(lambda two: two[0] == two[1], zip(a, b, strict=False)))) for a, b in both]
    assert [common_length(a, b) for a, b in both] == common
    lengths = Lengths.of(rows, 30, cut)
    assert lengths.padded == max(max(len(a), len(b)) for a, b in both)
    assert lengths.packed == max(len(a) + len(b) - c for (a, b), c in zip(both, common, strict=True))
    assert lengths.pair(64).tokens == pytest.approx(
        sum(len(a) + len(b) - c for (a, b), c in zip(both, common, strict=True)) / 30
    )


def test_predicted_operations_follow_the_rows_that_are_computed() -> None:
    shape = shape_of_config(LLAMA, None, 0)
    lengths = Lengths(50.0, 32.0, 82.0).typical_packed()
    assert (lengths.common, lengths.packed) == (50, pytest.approx(114))
    plain = lengths.where_shared(False, 4)

    def blocks(lengths: Lengths, spending: Spending, phase: str) -> float:
        """Without the LM head, which scores the same tokens."""
        bare = shape_of_config(LLAMA | {"vocab_size": 0}, None, 0)
        return phases(bare, spending, lengths, 4)[phase]

    reference = Spending(reference=2)
    assert blocks(plain, reference, "reference") == forward(shape, 8, 82)
    assert blocks(lengths, reference, "reference") == forward(shape, 4, 114)
    assert blocks(lengths, Spending(), "train") / blocks(plain, Spending(), "train") == pytest.approx(
        114 / 164, abs=0.1
    )
    assert blocks(lengths, Spending(rows=1), "train") == blocks(plain, Spending(rows=1), "train")
    assert not lengths.where_shared(True, 6000).packed


def test_predictions_know_which_models_share() -> None:
    lengths = Lengths(50.0, 32.0, 82.0).typical_packed()
    train = TrainSpec()
    assert with_sharing(lengths, train, None).packed and with_sharing(lengths, train, LLAMA).packed
    assert with_sharing(lengths, train, LLAMA | {"sliding_window": 82}).packed
    assert not with_sharing(lengths, train, LLAMA | {"sliding_window": 81}).packed
    assert not with_sharing(lengths, train, LLAMA | {"output_router_logits": False}).packed
    assert not with_sharing(lengths, TrainSpec(attention="flash_attention_2"), LLAMA).packed
    assert not with_sharing(lengths, TrainSpec(extra={"disable_dropout": False}), LLAMA).packed
