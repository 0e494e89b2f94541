"""What a reward model cannot read: prompts that its template refuses or shortens, long ones, a tokenizer that does not
suit it; and the date in its template."""

from __future__ import annotations

import copy
import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from harness.errors import UserError
from harness.oracles.base import NoVerdict, Oracle
from harness.oracles.reward_model import LEFT_OUT, REFUSED, TOO_LONG, RewardModel, RewardModelOptions, conversation_ids

TURN = "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
EACH, END = "{% for m in messages %}", "{% endfor %}"
REFUSES = (
    EACH + "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURN + END,
    EACH + "{% if m['role'] != 'system' %}" + TURN + "{% endif %}" + END,
)
"""Templates without a system turn: one raises an error, one leaves it out."""

SYSTEM = {"role": "system", "content": "Be brief."}
ROWS: list[dict[str, Any]] = [
    {"id": "0", "prompt": "Hi", "messages": [SYSTEM, {"role": "user", "content": "Hi"}]},
    {"id": "1", "prompt": "Hi"},
]


def save(folder: Path, tokenizer: Any, template: str | None, **config: Any) -> RewardModel:
    """A random reward model of 64 positions in a table, with this chat template."""
    sizes = {"vocab_size": 261, "n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 4} | config
    torch.manual_seed(0)
    settings = transformers.GPT2Config(**sizes, num_labels=1, pad_token_id=257, eos_token_id=256, bos_token_id=None)
    transformers.GPT2ForSequenceClassification(settings).save_pretrained(folder)
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    other.save_pretrained(folder)
    return RewardModel(RewardModelOptions(model=str(folder)))


@pytest.mark.parametrize(("template", "reason"), list(zip(REFUSES, (REFUSED, LEFT_OUT), strict=True)))
def test_a_template_without_a_system_turn(template: str, reason: str, tokenizer: Any, tmp_path: Path) -> None:
    """Prompts with one have no reward, and the others do; where no prompt can have one, nothing begins."""
    oracle = save(tmp_path, tokenizer, template)
    oracle.check_prompts(ROWS)
    none, reward = oracle.score(ROWS, ["yes", "yes"])
    assert isinstance(none, NoVerdict)
    assert none.reason == reason
    assert math.isfinite(reward)
    assert isinstance(oracle.prefer(ROWS[:1], ["yes"], ["no"])[0], NoVerdict)
    with pytest.raises(UserError, match=f"can reward an answer to none of the 2 prompts .the first: {reason}"):
        oracle.check_prompts([ROWS[0], ROWS[0]])
    oracle.check_prompts([])
    plain = save(tmp_path / "plain", tokenizer, EACH + TURN + END)
    assert all(map(math.isfinite, plain.score(ROWS, ["yes", "yes"])))


def test_a_template_may_write_other_white_space(tokenizer: Any, tmp_path: Path) -> None:
    """One that joins lines leaves no turn out; one that writes the first line alone does."""
    rows = [{"id": "0", "prompt": " Hi\n\nyou \n"}]
    joins, first = (
        TURN.replace("m['content']", f"m['content'].{end}") for end in ("split() | join(' ')", "split()[0]")
    )
    reward = save(tmp_path / "joins", tokenizer, EACH + joins + END).score(rows, ["yes"])[0]
    assert math.isfinite(reward)
    none = save(tmp_path / "first", tokenizer, EACH + first + END).score(rows, ["yes"])[0]
    assert isinstance(none, NoVerdict)
    assert none.reason == LEFT_OUT


def test_no_more_tokens_than_positions(tokenizer: Any, tmp_path: Path) -> None:
    """A longer conversation has no reward, instead of an IndexError or the reward of its beginning."""
    oracle = save(tmp_path, tokenizer, EACH + TURN + END)
    assert oracle.limit == 64
    room = 64 - len(conversation_ids(tokenizer, ROWS[1], ""))
    fits, too_long = oracle.score([ROWS[1]] * 2, ["x" * room, "x" * (room + 1)])
    assert math.isfinite(fits)
    assert isinstance(too_long, NoVerdict)
    assert too_long.reason == TOO_LONG
    assert oracle.score_beginnings([ROWS[1]] * 2, ["x" * room + "y", "x" * (room + 9)])[1] == pytest.approx(
        oracle.score_beginnings([ROWS[1]], ["x" * (room + 1)])[0], abs=1e-5
    )
    short = RewardModel(RewardModelOptions(model=str(tmp_path), max_length=20))
    assert short.limit == 20
    with pytest.raises(UserError, match=r"the first: longer than the reward model holds, \d+ tokens of 20"):
        short.check_prompts([{"id": "0", "prompt": "x" * 30}])


def test_its_tokenizer_must_suit_it(tokenizer: Any, tmp_path: Path) -> None:
    bare = save(tmp_path / "bare", tokenizer, None)
    with pytest.raises(UserError, match="has no chat template, .* option 'chat_template'"):
        bare.load()
    (tmp_path / "mine.jinja").write_text(EACH + TURN + END)
    options = {"model": str(tmp_path / "bare"), "chat_template": str(tmp_path / "mine.jinja")}
    given = RewardModel(RewardModelOptions(**options))
    whole = save(tmp_path / "whole", tokenizer, EACH + TURN + END)
    assert given.score(ROWS, ["a", "b"]) == whole.score(ROWS, ["a", "b"])
    assert given.identity() != bare.identity()
    outside = copy.deepcopy(tokenizer)
    outside.add_special_tokens({"pad_token": "[PAD]"})
    oracle = save(tmp_path / "outside", outside, EACH + TURN + END)
    with pytest.raises(UserError, match=r"has 261 embeddings, and its pad_token is '\[PAD\]' with the id 261"):
        oracle.load()
    settings = json.loads((tmp_path / "whole" / "tokenizer_config.json").read_text())
    for name in ("pad_token", "eos_token"):
        settings.pop(name)
    (tmp_path / "whole" / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="has no pad_token: set one"):
        RewardModel(RewardModelOptions(model=str(tmp_path / "whole"))).load()


def test_the_date_in_its_template(tokenizer: Any, tmp_path: Path) -> None:
    """That of the recipe, which a run sets as an attribute; without a run, the default."""
    template = "{{ strftime_now('%d %b %Y') }}" + EACH + TURN + END
    for day, expected in ((None, "01 Jan 2025"), (date(2031, 12, 24), "24 Dec 2031")):
        oracle: Oracle = save(tmp_path, tokenizer, template)
        oracle.chat_date = day or oracle.chat_date
        assert isinstance(oracle, RewardModel)
        assert tokenizer.decode(conversation_ids(oracle.tokenizer, ROWS[1], "yes")).startswith(f"{expected}<|user|>Hi")
