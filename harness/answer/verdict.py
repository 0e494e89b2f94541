"""From a judge's reply to a verdict, or to the reason why it holds none. Pure.

The one reader of the project: the oracle ``llm_judge``, judge cards and all judged benchmarks use it. A closed thinking
block is dropped first. One that never ends, or a reply that was cut before its verdict, is no verdict; neither are two
different labels in one reply, unless the rule of the benchmark is that the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

from harness.answer.choice_labels import choice_labels, marks_label
from harness.answer.reply import EMPTY, REFUSED, Reply

T = TypeVar("T")
Rule = Literal["only", "last"]

UNANSWERED = "no reply"
REFUSED_REPLY = "refused"
EMPTY_REPLY = "empty reply"
UNFINISHED_THINKING = "thinking never ends"
CUT = "cut by length"
NO_LABEL = "no label"
CONTRADICTORY = "contradictory labels"
OUT_OF_RANGE = "out of range"
NO_LOGPROBS = "no log-probabilities"

CHOICES = {"A": 1.0, "B": 0.0, "C": 0.5}
"""Value of each label of a comparison: 1 where the answer in slot A is better, 0.5 for a tie."""

ASK_FOR_CHOICE = (
    "Reply with your verdict alone: [[A]] if answer A is better, [[B]] if answer B is better, [[C]] for a tie."
)
"""The sentence of a prompt that asks for what :func:`read_choice` reads."""

TOKENS_FOR_CHOICE = 1024
"""Longest reply to such a prompt. A judge that answers at once stops after its label, so that the limit costs nothing;
one that thinks first has room for some hundred words."""

THINKING_TAG = re.compile(
    r"(?P<opening><(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)(?:\s[^<>]{0,60})?>|\[THINK\]"
    r"|◁think▷|<\|begin_of_thought\|>|<\|channel\|>analysis<\|message\|>|<\|channel>thought)"
    r"|</(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)\s*>|\[/THINK\]"
    r"|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>|<channel\|>",
    re.IGNORECASE,
)
"""A tag that opens (group ``opening``) or closes a thinking block, as models and chat templates write it."""

_BEFORE_A_BLOCK = re.compile(r"(?:^|[\n.!?:。！？])[\s*_#\ufeff\u200b]*$")
_RATING = re.compile(r"\[\[(\d++\.?+\d*+)\]\]")  # possessive: a reply of a million digits takes no longer
_SINGLE_RATING = re.compile(r"\[(\d++\.?+\d*+)\]")


class Verdict(NamedTuple, Generic[T]):
    """A verdict, or the reason why there is none ("" where there is one)."""

    value: T | None
    reason: str = ""


def without_thinking(text: str, *, cut: bool = False) -> str | None:
    """A reply without its thinking blocks; None if one never ends.

    A template may have opened the first block before the reply, so a closing tag alone ends one. An opening tag within
    a sentence is a word about such tags, unless it is closed or the reply was cut.

    Args:
        text: the reply.
        cut: whether its length was limited.
    """
    kept: list[str] = []
    start, opened, is_block = 0, -1, False
    for tag in THINKING_TAG.finditer(text):
        if tag["opening"]:
            if opened < 0:
                kept.append(text[start : tag.start()])
                opened = tag.start()
            is_block |= cut or bool(_BEFORE_A_BLOCK.search(text, max(0, tag.start() - 40), tag.start()))
        else:
            if opened < 0:
                kept.clear()
            start, opened, is_block = tag.end(), -1, False
    if is_block:
        return None
    return "".join([*kept, text[start if opened < 0 else opened :]]).strip()


def final_text(reply: Reply | str) -> Verdict[str]:
    """What a reply says after its thinking, or why it says nothing.

    Args:
        reply: of an endpoint, or the text that a file holds.
    """
    if isinstance(reply, Reply):
        if reply.error.startswith(REFUSED):
            return Verdict(None, REFUSED_REPLY)
        if reply.error and reply.error != EMPTY:
            return Verdict(None, UNANSWERED)
    whole = reply if isinstance(reply, str) else reply.text or ""
    if not whole.strip():
        return Verdict(None, _reason(reply, EMPTY_REPLY))
    text = without_thinking(whole, cut=_was_cut(reply))
    if text is None:
        return Verdict(None, UNFINISHED_THINKING)
    if not text:
        return Verdict(None, _reason(reply, NO_LABEL))
    return Verdict(text)


def _was_cut(reply: Reply | str) -> bool:
    return isinstance(reply, Reply) and reply.finish == "length"


def _reason(reply: Reply | str, otherwise: str) -> str:
    """Why a reply that holds no label holds none: the endpoint ended it, or ``otherwise``."""
    if isinstance(reply, Reply) and reply.finish in ("content_filter", "refusal"):
        return REFUSED_REPLY
    return CUT if _was_cut(reply) else otherwise


def read_labels(reply: Reply | str, find: Callable[[str], Sequence[T]], rule: Rule = "only") -> Verdict[T]:
    """The verdict of a reply.

    Args:
        reply: of an endpoint, or the text that a file holds.
        find: all labels of a text, in order.
        rule: ``only``: labels that differ are contradictory. ``last``: the last one counts.
    """
    text, reason = final_text(reply)
    if text is None:
        return Verdict(None, reason)
    labels = list(find(text))
    if not labels:
        return Verdict(None, _reason(reply, NO_LABEL))
    if rule == "only" and any(label != labels[0] for label in labels):
        return Verdict(None, CONTRADICTORY)
    return Verdict(labels[-1])


def read_choice(reply: Reply | str) -> Verdict[float]:
    """Who won a comparison: 1 for slot A, 0 for slot B, 0.5 for a tie.

    A marked label (``[[A]]``, ``[[B]]``, ``[[C]]``) counts, or a reply that is nothing but a label. A letter somewhere
    in a sentence is no verdict, and neither is a bare one after which the reply was cut: it may begin a sentence.
    """
    label, reason = read_labels(reply, choice_labels)
    if label is None:
        return Verdict(None, reason)
    if _was_cut(reply) and not marks_label(final_text(reply).value or ""):
        return Verdict(None, CUT)
    return Verdict(CHOICES[label])


def read_rating(reply: Reply | str, low: float, high: float) -> Verdict[float]:
    """The rating in double brackets (``[[7]]``), else in single ones.

    Args:
        reply: of an endpoint, or the text that a file holds.
        low: least rating; high: greatest one. Another number is no valid rating.
    """
    value, reason = read_labels(reply, rating_labels)
    if value is None:
        return Verdict(None, reason)
    return Verdict(value) if low <= value <= high else Verdict(None, OUT_OF_RANGE)


def rating_labels(text: str) -> list[float]:
    """Numbers in double brackets, else those in single brackets."""
    return [float(number) for number in _RATING.findall(text) or _SINGLE_RATING.findall(text)]
