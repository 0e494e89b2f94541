"""What a chat template does to imported pairs: left out, counted, shown on the page; and what to change."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kit.templates import ASKED, EACH

from harness.answer.policy import Policy
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.oracles.reward_model import conversation_ids
from harness.pairs.advice import (
    CUT,
    EMPTY_RENDERED,
    EQUAL_CUT,
    EQUAL_RENDERED,
    LONG_PAIR,
    LONG_PROMPT,
    REFUSED_BY_TEMPLATE,
    advice,
)
from harness.pairs.tokenised import (
    ENDED,
    OTHER_PROMPT,
    SPECIAL,
    LengthLimits,
    fitting_prompts,
    tokenised_pairs,
)
from harness.report.imported_pairs import data_paragraph

THINKING = (
    EACH + "{% if m['role'] == 'system' %}{{ raise_exception('no system\n turn') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'].split('</think>')[-1] }}<|end|>\n{% endfor %}"
    + ASKED + "<|assistant|><think>\n{% endif %}"
)  # fmt: skip
"""Takes thoughts away, opens a thinking block, and refuses a system turn."""


@pytest.fixture
def policy(load: Callable[[], Any], tokenizer: Any) -> Policy:
    return Policy(load(), deepcopy(tokenizer), "tiny", meter=Meter(Ledger()), cache=None)


def row(chosen: str, rejected: str, prompt: str = "Hi?", **turn: str) -> dict[str, Any]:
    messages = [turn] if turn else []
    return {
        "id": chosen,
        "messages": [*messages, {"role": "user", "content": prompt}],
        "chosen": chosen,
        "rejected": rejected,
    }


ROWS = [
    row("<think>good</think>Same.", "<think>bad</think>Same."),
    row("<think>much</think>", "No."),
    row("Yes.", "<think>much</think>\n "),
    row("Yes.", "No.", role="system", content="Be brief."),
    row("Yes.<|end|>", "No."),
    row("Yes.", "No.<|end|>\n", "<|user|>Hi?"),
    row("Yes <|pad|> no.", "No."),
    row("Plainly.", "No."),
]


def test_what_a_template_does_to_pairs_is_counted(policy: Policy) -> None:
    policy.tokenizer.chat_template = THINKING
    rows, left_out, kept = tokenised_pairs(policy, ROWS, LengthLimits(100, 100))
    refused = f"{REFUSED_BY_TEMPLATE}: 'no system turn'"
    assert left_out == {EQUAL_RENDERED: 1, EMPTY_RENDERED: 2, refused: 1}
    assert kept == {ENDED: 2, SPECIAL: 2, OTHER_PROMPT: 4} and len(rows) == 4
    decoded = [policy.tokenizer.decode(r["chosen_ids"]) for r in rows]
    assert decoded == ["Yes.<|end|>", "Yes.<|end|>", "Yes <|pad|> no.<|end|>", "Plainly.<|end|>"]
    assert {policy.tokenizer.decode(r["prompt_ids"]) for r in rows[2:]} == {"<|user|>Hi?<|end|>\n<|assistant|>"}
    assert tokenised_pairs(policy, ROWS[-1:], LengthLimits(100, 100)).left_out == {}
    prompts = fitting_prompts(policy, ROWS, 100)
    assert (prompts.left_out, prompts.kept, len(prompts.rows)) == ({refused: 1}, {SPECIAL: 1}, 7)


def test_a_plain_template_keeps_thoughts(policy: Policy) -> None:
    rows, left_out, kept = tokenised_pairs(policy, [*ROWS[:4], ROWS[-1]], LengthLimits(100, 100))
    assert (len(rows), left_out, kept) == (5, {}, {})


def test_notes_stand_on_the_page() -> None:
    part = {"left_out": {LONG_PAIR: 2}, "kept": {OTHER_PROMPT: 3}}
    prompts: dict[str, Any] = {"prompts": 4, "left_out": {}}
    file = {"format": "trl", "rows": 9, "left_out": {}, "kept": {}}
    data = {
        "source": {name: {"sha256": "0" * 64} for name in ("train", "test")},
        "files": {"train": file, "test": file},
        **{"train": {"pairs": 3} | part, "heldout": {"pairs": 5, "left_out": {}, "kept": {SPECIAL: 1}}},
        **{"tune": prompts, "eval": prompts | {"kept": {}}},
    }
    shown = data_paragraph(data)
    assert (
        f"Used: 3 training pairs (2 {LONG_PAIR}; of those kept, 3 {OTHER_PROMPT}), 5 held-out pairs (of those kept, "
        f"1 {SPECIAL}), 4 tuning prompts, 4 evaluation prompts." in shown
    )


@pytest.mark.parametrize(
    ("left_out", "part", "cures"),
    [
        ({LONG_PAIR: 3}, "train", ["raise train.max_length"]),
        ({EQUAL_CUT: 3}, "heldout", ["raise train.max_length"]),
        ({LONG_PROMPT: 3}, "train", ["raise train.max_length, data.max_prompt_length or data.train_prompts"]),
        ({LONG_PROMPT: 3}, "eval", ["raise data.max_prompt_length or data.eval_prompts, or lower data.max_new_tokens"]),
        ({EQUAL_RENDERED: 3, EMPTY_RENDERED: 1}, "train", ["template of org/name takes away what the answers differ"]),
        ({f"{REFUSED_BY_TEMPLATE}: 'x'": 2}, "tune", ["template of org/name does not take these conversations"]),
        ({LONG_PAIR: 1, f"{REFUSED_BY_TEMPLATE}: 'x'": 2}, "train", ["does not take", "and raise train.max_length"]),
        ({CUT: 2}, "train", ["raise data.train_prompts"]),
        ({}, "train", ["raise data.train_prompts"]),
    ],
)
def test_the_advice_fits_the_cause(left_out: dict[str, int], part: str, cures: list[str]) -> None:
    sentence = advice(left_out, part, "org/name")
    places = [sentence.index(cure) for cure in cures]
    assert places == sorted(places)
    assert ("max_length" in sentence) == any(reason in (LONG_PAIR, LONG_PROMPT, EQUAL_CUT) for reason in left_out) or (
        part == "eval"
    )


def test_a_reward_model_is_trained_on_texts_as_imported(
    tiny_dir: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ids of the policy lack what its decoder leaves out: special tokens and the white space at the ends."""
    import harness.train.reward_model as training
    from harness.recipe.load import load_recipe
    from harness.run.train_reward import train_reward

    lines = [f'{{"prompt": "Q {i}?", "chosen": " A<|user|>{i}\\n<|end|>", "rejected": "B {i}"}}\n' for i in range(12)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    (tmp_path / "test.jsonl").write_text("".join(lines).replace("Q ", "T "))
    (tmp_path / "recipe.yaml").write_text(
        "name: mine\nmodel: tiny\nmethods: [start, dpo]\nbenchmarks: {mmlu: {limit: 4}}\n"
        "data: {task: preferences, train: train.jsonl, test: test.jsonl, tune_prompts: 2, eval_prompts: 2, "
        "heldout_prompts: 4, max_new_tokens: 4}\nbudgets: {p: {axis: pairs, limit: 8}}\nbudget: p\n"
        "train: {batch_size: 2, max_length: 64}\ntune: {learning_rates: [1.0e-3]}\n"
    )
    seen: list[Any] = []

    def stop(model: Any, tokenizer: Any, rows: Any, *rest: Any) -> None:
        seen.extend(rows)
        raise UserError("seen")

    monkeypatch.setattr(training, "train_reward_model", stop)
    work = SimpleNamespace(**{name: lambda *_: None for name in ("show", "stage", "advance", "at", "finished")})
    shown: Any = SimpleNamespace(begin=lambda *_: work)
    recipe = load_recipe(str(tmp_path / "recipe.yaml"))
    with pytest.raises(UserError, match="seen"):
        train_reward(recipe, tmp_path / "store", tmp_path / "rm", epochs=1, learning_rate=1e-3, shown=shown)
    texts = sorted(tokenizer.decode(r["chosen_ids"]) for r in seen)
    assert texts == sorted(f"<|user|>Q {i}?<|end|><|assistant|> A<|user|>{i}\n<|end|>" for i in range(10))


def test_pairs_that_no_reward_model_could_rate(tiny_dir: Path) -> None:
    """Refused before training, with the cause; one pair that it can rate is enough."""
    from harness.oracles.reward_model import RewardModel, RewardModelOptions
    from harness.run.train_reward import _Pairs

    pairs = [row("Yes.", "No."), row("Yes!", "No.", role="system", content="Be brief."), row("y" * 99, "No!")]
    template = (
        EACH + "{% if m['role'] != 'system' %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    )

    def check(*chosen: dict[str, Any]) -> None:
        oracle = RewardModel(RewardModelOptions(model=str(tiny_dir), max_length=40))
        oracle.tokenizer.chat_template = template
        _Pairs([256], {pair["id"]: pair for pair in pairs}, [], list(chosen)).check_heldout(oracle)

    check(*pairs)
    with pytest.raises(
        UserError, match=r"none of the 2 held-out pairs \(1 are refused .*, 1 are too long\): take prompts "
    ):
        check(*pairs[1:])
    with pytest.raises(UserError, match="1 are too long.: take conversations of at most 40 tokens"):
        check(pairs[2])


def test_a_reward_model_without_a_template_reads_plain_text(tokenizer: Any) -> None:
    plain = deepcopy(tokenizer)
    plain.chat_template = None
    assert plain.decode(conversation_ids(plain, {"prompt": "Hi?"}, " Yes.\n")) == "Hi?\n\n Yes.\n"
