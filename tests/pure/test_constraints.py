"""The gold-reward task: enough prompts and kinds, disjoint splits, and checks that agree with hand-made examples."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.errors import UserError
from harness.oracles.constraints import (
    KINDS,
    ConstraintOracle,
    constraints_for,
    count_sentences,
    is_met,
    load_prompts,
    words,
)
from harness.pairs.prompts import splits
from harness.recipe.recipe import DataSpec

EXAMPLES = [
    ("max_words", 3, "One two three.", "One two three four."),
    ("max_characters", 5, " fives ", "sixsix"),
    ("one_sentence", None, "It rains in 3.5 towns.", "It rains. It pours."),
    ("one_sentence", None, '"It rains."', "It rains"),
    ("one_line", None, "one, two\n", "one\ntwo"),
    ("lowercase", None, "all small, 7.", "Not small"),
    ("end_stop", None, "It is. ", "Is it?"),
    ("end_question", None, "Is it? ", "It is."),
    ("no_commas", None, "one two", "one, two"),
    ("no_colons", None, "one two", "one: two"),
    ("no_digits", None, "I have three.", "I have 3."),
    ("include", "today", "Not Today, please", "yesterday"),
    ("avoid", "the", "Other theories", "In the end"),
]


@pytest.mark.parametrize(("kind", "value", "good", "bad"), EXAMPLES)
def test_checks(kind: str, value: object, good: str, bad: str) -> None:
    assert is_met({"kind": kind, "value": value}, good)
    assert not is_met({"kind": kind, "value": value}, bad)


def test_every_kind_has_an_example() -> None:
    assert {e[0] for e in EXAMPLES} == set(KINDS)
    assert len(KINDS) >= 10


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_empty_answer_meets_nothing(kind: str) -> None:
    assert not is_met({"kind": kind, "value": KINDS[kind].values[0]}, " \n")


def test_words_and_sentences() -> None:
    assert words("Don’t stop-me, 2 go!") == ["don't", "stop", "me", "2", "go"]
    assert [count_sentences(t) for t in ("", "No end", "One. Two? Three!", "Hm... yes.", "?!")] == [0, 0, 3, 2, 0]


def test_prompts_are_enough_disjoint_and_carry_two_constraints() -> None:
    train, evaluation = load_prompts("train"), load_prompts("eval")
    assert min(len(train), len(evaluation)) >= 200
    texts = [" ".join(words(p["prompt"])) for p in train + evaluation]
    assert len(set(texts)) == len(texts)
    counts = Counter(c["kind"] for p in train for c in p["constraints"])
    assert set(counts) == set(KINDS)
    for prompt in train + evaluation:
        families = [KINDS[c["kind"]].family for c in prompt["constraints"]]
        assert len(families) == 2
        assert families[0] != families[1]
        for constraint in prompt["constraints"]:
            assert KINDS[constraint["kind"]].text.format(constraint["value"]) in prompt["prompt"]


def test_constraints_follow_from_the_id() -> None:
    for prompt in [*load_prompts("train"), *load_prompts("eval")]:
        assert prompt["constraints"] == constraints_for(prompt["id"])
    assert constraints_for("train-001") == constraints_for("train-001")
    assert len({str(constraints_for(f"train-{i:03d}")) for i in range(50)}) > 25


def test_reward_is_the_share_met() -> None:
    row = {"constraints": [{"kind": "lowercase", "value": None}, {"kind": "no_commas", "value": None}]}
    texts = ["fine", "Fine", "fine, sir", "Fine, sir", ""]
    assert ConstraintOracle().score([row] * 5, texts) == [1.0, 0.5, 0.5, 0.0, 0.0]


def test_splits_are_disjoint_and_bounded() -> None:
    data = DataSpec(train_prompts=100, tune_prompts=50, eval_prompts=120, heldout_prompts=60)
    parts = splits(data)
    ids = [p["id"] for rows in parts.values() for p in rows]
    assert len(ids) == len(set(ids)) == 330
    with pytest.raises(UserError, match=r"data\.eval_prompts"):
        splits(data.model_copy(update={"eval_prompts": 200}))
