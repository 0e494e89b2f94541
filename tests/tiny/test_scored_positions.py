"""Logits in parts against whole forwards, for architectures that treat their logits in ways of their own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from kit.random_models import PAD, VOCABULARY, answer_logps, plain_logps, random_ids, random_model

from harness.answer import continuations
from harness.answer.continuations import score_continuations
from harness.answer.scored_positions import answer_logps as in_parts
from harness.answer.scored_positions import logits_in_parts
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from sail.prefill import backbone

KINDS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "GPT2": {},
    "Gemma2": {"final_logit_softcapping": 2.0},
    "Cohere": {"logit_scale": 0.0625, "head_dim": 8},
    "Granite": {"logits_scaling": 8.0},
    "Mpt": {},
}
ROUNDING = 5e-6
"""Ten steps of a float32 between 4 and 8, as large as these log-probabilities: products of other sizes add up in
another order, and in which depends on the processor."""

ROWS = [(random_ids(5 + i, i), random_ids(3 + 2 * (i % 4), 100 + i)) for i in range(6)]


def model_of(kind: str) -> Any:
    import kit.random_models as models

    models.ARCHITECTURES.setdefault(kind, {})
    return random_model(kind, **KINDS[kind])


@pytest.mark.parametrize("at_once", [1, 5 * VOCABULARY, 1 << 26])
@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_of_answers(kind: str, at_once: int) -> None:
    model = model_of(kind)
    expected = [answer_logps(model, *row) for row in ROWS]
    values = in_parts(model, ROWS, PAD, at_once)
    for ours, theirs in zip(values, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-5)
    whole = in_parts(model, ROWS, PAD)
    differences = [abs(a - b) for x, y in zip(values, whole, strict=True) for a, b in zip(x, y, strict=True)]
    assert max(differences) <= ROUNDING


@pytest.mark.parametrize("at_once", [1, 3 * VOCABULARY])
def test_continuations_do_not_depend_on_the_parts(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several completions of a prompt, of many lengths; the greedy one is among them."""
    model = model_of("Gemma2")
    prompt = random_ids(9, 1)
    greedy: list[int] = []
    for _ in range(4):
        greedy.append(int(plain_logps(model, [*prompt, *greedy])[-1].argmax()))
    rows = [*ROWS, (prompt, tuple(greedy)), (prompt, (*greedy[:-1], 7)), (prompt, (*greedy[:-1], 8))]
    whole = score_continuations(model, rows, pad_id=PAD)
    assert [row.is_greedy for row in whole[-3:]] == [True, False, False]
    for row, result in zip(rows, whole, strict=True):
        assert result.logp == pytest.approx(sum(answer_logps(model, *row)), abs=1e-4)
    monkeypatch.setattr(continuations, "logits_in_parts", partial(logits_in_parts, at_once=at_once))
    parts = score_continuations(model, rows, pad_id=PAD)
    assert [row.is_greedy for row in parts] == [row.is_greedy for row in whole]
    assert [row.logp for row in parts] == pytest.approx([row.logp for row in whole], abs=8 * ROUNDING)


def test_the_logits_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = model_of("Llama"), []
    model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
    in_parts(model, ROWS, PAD, 7 * VOCABULARY)
    scored = sum(len(answer) for _, answer in ROWS)
    assert max(sizes) == 7 * VOCABULARY
    assert sum(sizes) == scored * VOCABULARY, "positions of answers alone"


def test_each_forward_is_charged_once() -> None:
    """The backbone for all tokens, the head for the positions that are scored."""
    from harness.budget.flops import forward, head, shape_of

    model, ledger = model_of("Llama"), Ledger()
    Meter(ledger).attach(model)
    in_parts(model, ROWS, PAD, VOCABULARY)
    shape, width = shape_of(model), max(len(p) + len(a) for p, a in ROWS)
    scored = sum(len(answer) for _, answer in ROWS)
    expected = forward(shape, len(ROWS), width) + head(shape, scored)
    assert ledger.get("reference", "forward_flops") == expected
    assert ledger.get("reference", "tokens") == sum(len(p) + len(a) for p, a in ROWS)


def test_a_failing_head_leaves_the_model_whole() -> None:
    model = model_of("Llama")
    body = backbone(model)

    def fail(module: Any, inputs: Sequence[Any], output: Any) -> None:
        raise RuntimeError("no memory")

    handle = model.get_output_embeddings().register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        in_parts(model, ROWS, PAD)
    handle.remove()
    assert backbone(model) is body
    assert torch.isfinite(torch.tensor(in_parts(model, ROWS, PAD)[0])).all()
