"""What a judge card is made of: pairs in their forms, and answers of a judge."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import golden
from kit.rows import write_rows

from harness.answer.reply import Reply
from harness.errors import UserError
from harness.judge.card_endpoint import read_reply
from harness.judge.card_pairs import LabelledPair, pairs_file, read_pairs


def test_log_probabilities_count_where_the_text_is_the_label() -> None:
    """They say how sure a judge is; which answer it names is what its text says."""
    top = {"A": math.log(0.5), " A": math.log(0.1), "B": math.log(0.2), "The": math.log(0.1)}
    first, mass, reason = read_reply(Reply("A", top))
    assert (first, mass, reason) == (pytest.approx(0.6 / 0.8), pytest.approx(0.8), "")
    marked = {"[[A": math.log(0.7), "[[B": math.log(0.2)}
    assert read_reply(Reply("[[A]]", marked)).first == pytest.approx(0.7 / 0.9)
    assert read_reply(Reply("[[A]]", {"[[": -0.01, "A": -5.0})) == (1.0, None, "")
    assert read_reply(Reply("A tie", top)) == (0.5, None, "")
    assert read_reply(Reply("C", {"C": -0.1, "A": -3.0})) == (0.5, None, "")
    assert read_reply(Reply("A good answer is short, so [[B]]", top)) == (0.0, None, "")
    assert read_reply(Reply("Answer A is better than answer B.", top)) == (None, None, "no label")
    assert read_reply(Reply("A", top, finish="length")) == (None, None, "cut by length")
    assert read_reply(Reply("", top)) == (None, None, "empty reply")
    assert read_reply(Reply(None, error="status 500")) == (None, None, "no reply")


def test_forms_of_pairs(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "Hi {x}"}

    def answer(text: str) -> dict[str, str]:
        return {"role": "assistant", "content": text}

    rows: list[Any] = [
        {"prompt": "Q", "chosen": "good", "rejected": "bad"},
        {"prompt": "Q", "chosen": "same", "rejected": "same"},
        {"chosen": [turn, answer("1")], "rejected": [{"role": "user", "content": "another"}, answer("2")]},
        {"prompt": "Hi", "chosen": [turn, answer("good")], "rejected": [turn, answer("bad")]},
        {"prompt": [turn], "chosen": [answer("good")], "rejected": [answer("bad")]},
        {"instruction": "Do", "input": "it", "chosen": "good", "rejected": "bad"},
        {"instruction": "Do", "input": "", "chosen": "good", "rejected": "bad"},
        {"chosen": [turn, answer("yes"), turn, answer("good")], "rejected": [turn, answer("yes"), turn, answer("bad")]},
        {"prompt": "not read"},
    ]
    path = write_rows(tmp_path / "pairs.jsonl", rows[:-1])
    usable, equal = read_pairs(path, 10)
    assert equal == 2
    talk = "User: Hi {x}\n\nAssistant: yes\n\nUser: Hi {x}"
    assert [p.prompt for p in usable] == ["Q", "Hi {x}", "Hi {x}", "Do\n\nit", "Do", talk]
    assert {p[1:] for p in usable} == {("good", "bad")}
    assert read_pairs(path, 1) == ([LabelledPair("Q", "good", "bad")], 0)


def test_golden_pairs() -> None:
    rows, equal = read_pairs(golden("preference", "ultrafeedback_binarized_test_prefs_500.jsonl"), 100)
    assert (len(rows), equal) == (100, 1)
    every, equal = read_pairs(golden("preference", "short_synthetic_1100.jsonl"), 10**6)
    assert (len(every), equal) == (1094, 6)
    assert pairs_file(golden("preference").parent).name == "ultrafeedback_binarized_test_prefs_500.jsonl"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "Q", "chosen": "x"}, r"line 2: the key 'rejected' is missing"),
        ({"prompt": "Q", "chosen": 3, "rejected": "x"}, r"line 2: 'chosen' must be a string or a list of messages"),
        ({"prompt": 7, "chosen": "y", "rejected": "x"}, r"line 2: 'prompt' must be a string or a list of messages"),
        ({"instruction": "Do", "input": 7, "chosen": "y", "rejected": "x"}, r"line 2: 'input' must be a string"),
    ],
)
def test_a_bad_row_is_named(row: Any, sentence: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.jsonl", [{"prompt": "Q", "chosen": "a", "rejected": "b"}, row])
    with pytest.raises(UserError, match=re.escape(str(path)) + ", " + sentence):
        read_pairs(path, 10)


def test_what_changes_a_request_is_used_or_refused_on_a_card_too(tmp_path: Path) -> None:
    pair = {
        "prompt": "Why is the sky blue?",
        "chosen": "Why is the sky blue? Air.",
        "rejected": "Why is the sky blue? So.",
    }
    path = write_rows(tmp_path / "a.jsonl", [pair | {"system": "Be brief."}])
    asked = "System: Be brief.\n\nUser: Why is the sky blue?"
    assert read_pairs(path, 10) == ([LabelledPair(asked, "Air.", "So.")], 0)
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected,score_chosen\nWhy?,good,bad,2\n")
    assert read_pairs(tmp_path / "a.csv", 10).pairs == [LabelledPair("Why?", "good", "bad")]
    with pytest.raises(UserError, match="b.jsonl, line 1: the column 'images' changes what the row means"):
        read_pairs(write_rows(tmp_path / "b.jsonl", [pair | {"images": ["x.png"]}]), 10)
    with pytest.raises(UserError, match="is a folder: name a file in it with --pairs"):
        read_pairs(tmp_path, 10)
