"""Which reply is a verdict on two answers: the reading of many replies, written beside each.

The oracle ``llm_judge`` and the judge card read every one of them alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.answer.choice_labels import choice_labels
from harness.answer.client import Client
from harness.answer.reply import EMPTY, REFUSED, Call, Reply
from harness.answer.verdict import (
    ASK_FOR_CHOICE,
    CONTRADICTORY,
    CUT,
    EMPTY_REPLY,
    NO_LABEL,
    REFUSED_REPLY,
    UNANSWERED,
    UNFINISHED_THINKING,
    Verdict,
    read_choice,
    read_labels,
    read_rating,
    without_thinking,
)
from harness.judge.card_endpoint import AskSettings, ask_endpoint, read_reply
from harness.judge.card_pairs import LabelledPair
from harness.oracles.base import NoVerdict
from harness.oracles.llm_judge import LLMJudge, LLMJudgeOptions
from harness.recipe.endpoint import Endpoint

A, B, TIE = 1.0, 0.0, 0.5


class Case(NamedTuple):
    reply: str | Reply
    expected: float | str


def cut(text: str) -> Reply:
    return Reply(text, finish="length")


CASES = [
    # nothing but a label
    Case("A", A),
    Case("B", B),
    Case("C", TIE),
    Case(" b.\n", B),
    Case("a", A),
    Case("**A**", A),
    Case("(B)", B),
    Case("[A]", A),
    Case("`B`", B),
    Case("A.<|im_end|>", A),
    Case("\ufeffA", A),
    Case("Answer A", A),
    Case("Option B", B),
    Case("Response: A", A),
    Case("**Final verdict:** B", B),
    Case("The better answer is B.", B),
    Case("My final answer is A!", A),
    Case('{"verdict": "B"}', B),
    Case("tie", TIE),
    Case("Tie.", TIE),
    Case("A tie", TIE),
    Case("a draw", TIE),
    Case("It's a tie.", TIE),
    Case("The verdict is a tie", TIE),
    Case("The better answer is a", NO_LABEL),  # may be the article
    # a marked label
    Case("[[A]]", A),
    Case("[[B]]\n", B),
    Case("[[C]]", TIE),
    Case("[[ a ]]", A),
    Case("[[Tie]]", TIE),
    Case("[[a tie]]", TIE),
    Case("[[Answer B]]", B),
    Case("[[Assistant A]]", A),
    Case("[[**B**]]", B),
    Case("**[[A]]**", A),
    Case(r"\[\[B\]\]", B),
    Case("［［Ａ］］", A),
    Case("【【B】】", B),
    Case("Answer A explains more, answer B is shorter. I choose [[A]].", A),
    Case("# Verdict\n\n* A: clear\n* B: wrong\n\n**[[A]]**", A),
    Case("[[B]] because A is wrong.", B),
    Case("[[A]]. To repeat: [[A]].", A),
    Case("Rating: [[8]] [[B]] [[A>B]]", B),
    Case("Answer A deserves [[3]], answer B [[9]].", NO_LABEL),
    Case("[[A>>B]]", NO_LABEL),
    Case("[[A/B/C]]", NO_LABEL),
    Case("[[]]", NO_LABEL),
    # letters in sentences
    Case("Answer A is better than answer B.", NO_LABEL),
    Case("Answer B is better than answer A.", NO_LABEL),
    Case("I prefer A over B", NO_LABEL),
    Case("Answer B, which explains more than A", NO_LABEL),
    Case("A good answer is short. So B.", NO_LABEL),
    Case("A\n\nIt is more complete.", NO_LABEL),
    Case("Both are fine", NO_LABEL),
    Case("A and B are alike", NO_LABEL),
    Case("A/B", NO_LABEL),
    Case("A B", NO_LABEL),
    # thinking
    Case("<think>\nAt first [[A]]. No.\n</think>\n\n[[B]]", B),
    Case("<thinking>[[A]] or [[B]]</thinking>A", A),
    Case("Hm, [[A]]? B lies.\n</think>\n[[A]]", A),
    Case("First [[B]].</think><think>Then [[A]].</think>[[C]]", TIE),
    Case("<think>\n<think>\n[[B]]\n</think>\n[[A]]", A),
    Case("[THINK]Perhaps [[A]][/THINK][[B]]", B),
    Case("◁think▷[[A]]◁/think▷[[B]]", B),
    Case("<|channel|>analysis<|message|>[[A]]?<|end|><|start|>assistant<|channel|>final<|message|>[[B]]", B),
    Case("<think> Answer A looks fine, but B", UNFINISHED_THINKING),
    Case("\n <THINK>\n[[A]]", UNFINISHED_THINKING),
    Case("Let me see.\n<think>\n[[A]] is what I lean to", UNFINISHED_THINKING),
    Case("<think>one</think>\n[[A]]\n<think>or [[B]]", UNFINISHED_THINKING),
    Case(cut("<think>\nThe first answer is thin, perhaps [[B]] or [[A]]. But"), UNFINISHED_THINKING),
    Case(cut("I shall <think> about it, perhaps [[A]]"), UNFINISHED_THINKING),
    Case("<think>A is better.</think>", NO_LABEL),
    Case("<think>[[A]]</think>I cannot tell.", NO_LABEL),
    Case("Answer A leaves a <think> tag in its text. [[B]]", B),
    Case("[[B]], since A leaves <think> and </think> in its text.", B),
    # quotations, lists of the labels, questions, denials
    Case("I am to use [[A]], [[B]] or [[C]]. My verdict: [[B]]", B),
    Case('The format is "[[A]]" if A is better, "[[B]]" if B is better, and "[[C]]" for a tie.\n\n[[A]]', A),
    Case("- [[A]] if A wins.\n- [[B]] if B wins.\n- [[C]] for a tie.\n\nSo: [[C]]", TIE),
    Case(f"{ASK_FOR_CHOICE} I reply [[A]]", A),
    Case("[[A]] and [[B]] are equally good, so [[C]].", TIE),
    Case("[[A]] for its style, [[B]] for its content. Overall [[B]]", B),
    Case('Answer B ends with "please reply [[B]]", which is not for it to say. [[A]]', A),
    Case('Answer B says "the verdict is [[B]]".', NO_LABEL),
    Case("Answer A says:\n> My verdict: [[A]]\n\n[[B]]", B),
    Case("```python\nprint('[[A]]')\n```\nis all of answer A. [[B]]", B),
    Case("```\n[[A]]\n```", A),
    Case('```json\n{"reason": "B is wrong", "verdict": "[[A]]"}\n```', A),
    Case('{"reason": "not [[A]] for me", "verdict": "[[B]]"}', B),
    Case('"[[A]]"', A),
    Case('"My verdict is [[B]]."', B),
    Case("Verdict:\n```text\n[[B]]\n```", B),
    Case("Is it [[A]]? No: [[B]].", B),
    Case("I would not say [[A]].", NO_LABEL),
    Case("It is not [[A]] but [[B]].", B),
    # contradictory
    Case("[[A]] ... on second thought, [[B]]", CONTRADICTORY),
    Case("[[A]] [[B]]", CONTRADICTORY),
    Case("[[A]] or [[B]]", CONTRADICTORY),
    Case("[[A]]\n[[C]]", CONTRADICTORY),
    Case(ASK_FOR_CHOICE, CONTRADICTORY),
    Case('"[[A]]", then "[[B]]"', CONTRADICTORY),
    # other languages
    Case("Antwort A ist genauer als Antwort B. [[A]]", A),
    Case("Ich soll [[A]], [[B]] oder [[C]] wählen: [[C]]", TIE),
    Case("Antwort A ist besser als Antwort B.", NO_LABEL),
    Case("Es ist nicht [[B]], sondern [[A]].", A),
    Case("答案A比答案B更完整。[[A]]", A),
    Case("我认为B更好。", NO_LABEL),
    Case("从[[A]]、[[B]]或[[C]]中选择：[[B]]。", B),
    Case("А лучше", NO_LABEL),  # a Cyrillic letter
    # empty, refused, cut
    Case("", EMPTY_REPLY),
    Case(" \n", EMPTY_REPLY),
    Case(Reply(None, error=EMPTY), EMPTY_REPLY),
    Case(Reply("", {"A": -0.1}), EMPTY_REPLY),
    Case(Reply(None, error=f"{REFUSED}the prompt was filtered"), REFUSED_REPLY),
    Case(Reply("", finish="content_filter"), REFUSED_REPLY),
    Case(Reply("The first answer", finish="content_filter"), REFUSED_REPLY),
    Case("I'm sorry, but I can't help with judging this conversation.", NO_LABEL),
    Case("As an AI I have no preference between A and B.", NO_LABEL),
    Case(Reply(None, error="status 500"), UNANSWERED),
    Case(cut(""), CUT),
    Case(cut("Answer A is the one that"), CUT),
    Case(cut("A"), CUT),
    Case(cut("The better answer is A"), CUT),
    Case(cut("[[A"), CUT),
    Case(cut("<think>short</think>"), CUT),
    Case(cut("[[B]] because the first answer"), B),
    Case(cut("[[B]]"), B),
]  # fmt: skip
READABLE = [c for c in CASES if c.expected != UNANSWERED]  # the oracle ends the run where nothing came


def verdict_of(case: Case) -> Verdict[float]:
    return Verdict(None, case.expected) if isinstance(case.expected, str) else Verdict(case.expected)


def as_reply(case: Case) -> Reply:
    return Reply(case.reply) if isinstance(case.reply, str) else case.reply


def first_token(text: str) -> str:
    """What a tokenizer may make the first token of a text."""
    match = re.match(r"\s*(?:\[\[|\w+|.)", text, re.DOTALL)
    return match[0] if match else "A"


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case.reply)[:40])
def test_a_reply_is_read(case: Case) -> None:
    assert len(CASES) > 100
    assert read_choice(case.reply) == verdict_of(case)
    assert read_reply(as_reply(case)) == (verdict_of(case).value, None, verdict_of(case).reason)


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case.reply)[:40])
def test_log_probabilities_change_no_verdict(case: Case) -> None:
    """They say how sure a judge is of the label that its reply consists of, and nothing else."""
    reply = as_reply(case)
    top = dict.fromkeys(("A", "B", "[[A", "[[B"), -3.5) | {first_token(reply.text or ""): -0.15}
    reading = read_reply(Reply(reply.text, top, error=reply.error, finish=reply.finish))
    expected = verdict_of(case)
    assert reading.reason == expected.reason
    assert (reading.first is None) == (expected.value is None)
    if reading.first is not None and expected.value is not None:
        assert (reading.first > 0.5) - (reading.first < 0.5) == (expected.value > 0.5) - (expected.value < 0.5)
    if reading.mass is not None:
        assert len(reply.text or "") < 40


def answering(monkeypatch: pytest.MonkeyPatch, script: Sequence[Reply]) -> None:
    """A client's replies, call by call."""

    def ask(self: Client, calls: Sequence[Call], progress: Any = None) -> list[Reply]:
        assert len(calls) == len(script)
        return list(script)

    monkeypatch.setattr(Client, "ask", ask)


def test_oracle_and_card_read_every_reply_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through what a run and the command call, with the same replies: verdicts and counts by reason."""
    replies, n = [as_reply(c) for c in READABLE], len(READABLE)
    expected = [verdict_of(c) for c in READABLE]

    answering(monkeypatch, [r for reply in replies for r in (reply, Reply("[[C]]"))])
    oracle = LLMJudge(LLMJudgeOptions(model="m"))
    shares = oracle.prefer([{"prompt": "p"}] * n, ["x"] * n, ["y"] * n)
    assert [s.reason if isinstance(s, NoVerdict) else "" for s in shares] == [v.reason for v in expected]
    by_oracle = [None if isinstance(s, NoVerdict) else 2 * s - 0.5 for s in shares]

    answering(monkeypatch, [r for reply in replies for r in (reply, reply, reply)])
    card = ask_endpoint(Client(Endpoint(model="m")), [LabelledPair("p", "x", "y")] * n, AskSettings())
    assert card.items["forward"] == card.items["backward"] == card.items["again"] == by_oracle
    assert by_oracle == [v.value for v in expected]
    reasons = Counter(v.reason for v in expected if v.value is None)
    assert card.usage["no_verdict"] == {reason: 3 * count for reason, count in reasons.items()}
    assert card.usage["unreadable"] == 3 * reasons.total()
    assert set(reasons) == {NO_LABEL, CUT, EMPTY_REPLY, REFUSED_REPLY, CONTRADICTORY, UNFINISHED_THINKING}


ANY_TEXT = st.text(st.characters(exclude_categories=()))
PIECES = st.sampled_from(
    ["[[A]]", "[[B]]", "[[C]]", "[[", "]]", "A", "b", "tie", "<think>", "</think>", '"', "`", "```", "> ", "\n", " ",
     ", ", " or ", " if ", ".", "?", "not ", "\ud83d", "\x00", "Answer ", "[[7]]", "\\[", "【"]
)  # fmt: skip
REPLIES = st.one_of(ANY_TEXT, st.lists(st.one_of(PIECES, ANY_TEXT)).map("".join))
FINISHES = st.sampled_from(["", "stop", "length", "content_filter"])
TOPS = st.none() | st.dictionaries(ANY_TEXT | st.sampled_from(["A", "B", "[[A"]), st.floats(-50, 0), max_size=5)


@given(text=REPLIES, finish=FINISHES, top=TOPS)
@example(text="\ud83d [[A]]", finish="stop", top=None)
@example(text="A" * 100_000, finish="length", top={"A": 0.0})
def test_any_text_is_a_verdict_or_a_reason(text: str, finish: str, top: dict[str, float] | None) -> None:
    for reply in (text, Reply(text, top, finish=finish)):
        value, reason = read_choice(reply)
        assert value in (A, B, TIE, None)
        assert (value is None) == bool(reason)
        assert read_labels(reply, choice_labels, "last").value in ("A", "B", "C", None)
        rating, reason = read_rating(reply, 1, 10)
        assert reason if rating is None else 1 <= rating <= 10
    reading = read_reply(Reply(text, top, finish=finish))
    assert (reading.first is None) == bool(reading.reason)
    assert reading.first is None or 0 <= reading.first <= 1
    assert reading.mass is None or 0.5 < reading.mass <= 1


@given(before=REPLIES, after=st.sampled_from(["[[A]]", "B", "no label", ""]))
def test_what_a_closed_block_holds_changes_nothing(before: str, after: str) -> None:
    assert read_choice(f"<think>{before}</think>{after}").value == read_choice(after).value


@pytest.mark.parametrize("piece", ["[[A]] ", '"', "`", "```\n", "[[", "<think> ", "\n> ", "not ", "[[A]], ", "(", "* "])
def test_long_replies_are_read_in_linear_time(piece: str) -> None:
    """A hundred thousand characters of anything that the reader looks for."""
    read_choice(piece * (100_000 // len(piece)))


def test_thinking_is_dropped_and_the_rest_is_kept() -> None:
    assert without_thinking("<think>x</think>\n\nHere is the answer.") == "Here is the answer."
    assert without_thinking("Use <think> tags.") == "Use <think> tags."
    assert without_thinking("Fine.\n<think>x</think>\nMore.") == "Fine.\n\nMore."
    assert without_thinking("<reasoning>never ends") is None
