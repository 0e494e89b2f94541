"""Policies: cached answers, log-probabilities against plain forwards, metering, adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.answer.load import load_model
from harness.answer.policy import Policy
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.recipe.train import LoraSpec
from harness.store.row_cache import RowCache
from harness.train.settings import lora_config
from sail.types import Request


def policy(model: Any, tokenizer: Any, cache: RowCache | None = None, identity: str = "p") -> Policy:
    return Policy(model, tokenizer, identity, meter=Meter(Ledger()), cache=cache, batch_size=3)


def some_requests(count: int = 5) -> list[Request]:
    return [Request(tuple(range(20, 30 + i)), 6, 1.0, ("x", i)) for i in range(count)]


def test_token_logps_equal_plain_forwards(load: Callable[[], Any], tokenizer: Any) -> None:
    model = load()
    rows = [([1, 2, 3], [4, 5]), ([9] * 12, [7]), ([3, 3], [8, 9, 10, 11])]
    for (prompt, answer), scored in zip(rows, policy(model, tokenizer).token_logps(rows, batch_size=2), strict=True):
        with torch.no_grad():
            logps = torch.log_softmax(model(torch.tensor([prompt + answer])).logits[0], -1)
        expected = [logps[len(prompt) - 1 + t, token].item() for t, token in enumerate(answer)]
        np.testing.assert_allclose(scored, expected, atol=2e-4)


def test_next_token_logps_equal_plain_forwards(load: Callable[[], Any], tokenizer: Any) -> None:
    """With a long shared prefix, without one, and with equal contexts."""
    model = load()
    shared = list(range(40, 60))
    contexts = [[*shared, 1, 2], [*shared, 3], [*shared, 1, 2], [5, 6, 7]]
    for group in (contexts[:3], contexts):
        scored = policy(model, tokenizer).next_token_logps(group, [10, 20, 30], batch_size=8)
        for context, values in zip(group, scored, strict=True):
            with torch.no_grad():
                expected = torch.log_softmax(model(torch.tensor([context])).logits[0, -1], -1)[[10, 20, 30]]
            np.testing.assert_allclose(values, expected.numpy(), atol=2e-4)


def test_cached_answers_cost_nothing(load: Callable[[], Any], tokenizer: Any, tmp_path: Path) -> None:
    cache = RowCache(tmp_path / "rows.sqlite")
    first = policy(load(), tokenizer, cache)
    answers = first.sample(some_requests(3))
    assert first.meter.ledger.get("generate", "generated") == sum(len(a.ids) for a in answers)
    second = policy(load(), tokenizer, cache)
    progress: list[int] = []
    both = second.sample(some_requests(5), progress.append)
    assert both[:3] == answers
    assert second.meter.ledger.get("generate", "generated") == sum(len(a.ids) for a in both[3:])
    assert sum(progress) == 5
    other = policy(load(), tokenizer, cache, identity="q")
    other.sample(some_requests(1))
    assert other.meter.ledger.get("generate", "generated") > 0


def test_a_price_does_not_depend_on_what_the_cache_held(
    load: Callable[[], Any], tokenizer: Any, tmp_path: Path
) -> None:
    """Answers kept from an interrupted or another stage cost what they cost when they were made."""

    def spent(folder: str, *parts: int) -> dict[str, float]:
        for count in parts:
            each = policy(load(), tokenizer, RowCache(tmp_path / folder))
            with each.meter.phase("data"):
                each.sample(some_requests(count), priced=True)
        return each.meter.ledger.entries["data"]

    once, again, joined = spent("a", 6), spent("a", 6), spent("b", 4, 6)
    assert set(once) == {"tokens", "generated", "prefill_flops", "decode_flops", "seconds"}
    assert again.pop("seconds") == pytest.approx(once.pop("seconds"), rel=0.3)  # rows are written the first time alone
    assert again == pytest.approx(once, rel=0.05)
    assert joined["generated"] == pytest.approx(once["generated"], rel=1e-6)
    assert joined["tokens"] >= once["tokens"] - 1e-3  # a batch computes what its prompts share once
    old = RowCache(tmp_path / "b")
    old.get([])  # which reads the file
    kept = old.get([key.decode() for key in old._index])
    old.put([(key, [*row[:3], *row[4:]]) for key, row in kept.items()], replace=True)  # as an earlier version had them
    assert spent("b", 6)["generated"] == once["generated"]


def test_meter_counts_tokens_by_kind_of_forward(load: Callable[[], Any], tokenizer: Any) -> None:
    model, ledger = load(), Ledger()
    meter = Meter(ledger)
    meter.attach(model)
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 1]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    model.train()
    model(input_ids=ids, attention_mask=mask, use_cache=False)
    with torch.no_grad():
        model.eval()(input_ids=ids, attention_mask=mask, use_cache=False)
        model.generate(
            ids[:, :3], attention_mask=mask[:, :3], max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=1
        )
        with meter.phase("judge"):
            model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert ledger.get("train", "tokens") == ledger.get("reference", "tokens") == ledger.get("judge", "tokens") == 7
    assert ledger.get("generate", "generated") == 2 * 5
    assert ledger.get("generate", "tokens") == 2 * 3 + 2 * 4
    assert ledger.get("judge", "seconds") > 0


def test_a_saved_adapter_is_merged(load: Callable[[], Any], tiny_dir: Path, tmp_path: Path) -> None:
    from kit.training import perturb
    from peft import get_peft_model

    model = get_peft_model(load(), lora_config(LoraSpec(r=4, layers=2), load()))
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert names
    assert all(".layers.1." in n or ".layers.2." in n for n in names)
    perturb(model, scale=0.05)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        expected = model.eval()(ids).logits
        model.save_pretrained(tmp_path)
        merged = load_model(tiny_dir, tmp_path)
        torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-3, atol=1e-4)
        assert (load()(ids).logits - expected).abs().max() > 1e-3
