"""From a judge's reply to a verdict, or to the reason why it holds none. Pure.

The one reader of the project: the oracle ``llm_judge``, judge cards and all judged benchmarks use it. A closed thinking
block is dropped first. One that never ends, or a reply that was cut before its verdict, is no verdict; neither are two
different labels in one reply, unless the rule of the benchmark is that the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

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

_OPENING = re.compile(r"\s*(?:<(think|thinking|thought|reasoning|reflection)>|\[THINK\])", re.IGNORECASE)
_CLOSING = re.compile(r"</(?:think|thinking|thought|reasoning|reflection)>|\[/THINK\]", re.IGNORECASE)
_MARKED = re.compile(r"\[\[\s*([^\[\]]{1,12}?)\s*\]\]")
_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_SINGLE_RATING = re.compile(r"\[(\d+\.?\d*)\]")
_BARE = re.compile(
    r"(?:(?:my |the |final )*(?:answer|verdict|choice|judg(?:e)?ment|winner|option)(?: is)? ?[:=]? ?)?(a|b|c|tie|draw)"
)
_BARE_LABELS = {"a": "A", "b": "B", "c": "C", "tie": "C", "draw": "C"}


class Verdict(NamedTuple, Generic[T]):
    """A verdict, or the reason why there is none ("" where there is one)."""

    value: T | None
    reason: str = ""


def without_thinking(text: str) -> str | None:
    """A reply without its thinking block; None if the block never ends.

    A block opens at the beginning of a reply. A template may have opened it before, so a closing tag alone ends one.
    """
    rest = _CLOSING.split(text)[-1]
    return None if _OPENING.match(rest) else rest.strip()


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
        return Verdict(None, CUT if _was_cut(reply) else EMPTY_REPLY)
    text = without_thinking(whole)
    if text is None:
        return Verdict(None, UNFINISHED_THINKING)
    if not text:
        return Verdict(None, CUT if _was_cut(reply) else NO_LABEL)
    return Verdict(text)


def _was_cut(reply: Reply | str) -> bool:
    return isinstance(reply, Reply) and reply.finish == "length"


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
        return Verdict(None, CUT if _was_cut(reply) else NO_LABEL)
    if rule == "only" and any(label != labels[0] for label in labels):
        return Verdict(None, CONTRADICTORY)
    return Verdict(labels[-1])


def read_choice(reply: Reply | str) -> Verdict[float]:
    """Who won a comparison: 1 for slot A, 0 for slot B, 0.5 for a tie.

    A marked label (``[[A]]``, ``[[B]]``, ``[[C]]``) counts, or a reply that is nothing but a label. A letter somewhere
    in a sentence is no verdict.
    """
    label, reason = read_labels(reply, choice_labels)
    return Verdict(None, reason) if label is None else Verdict(CHOICES[label])


def choice_labels(text: str) -> list[str]:
    """The marked labels ``A``, ``B`` and ``C`` of a text (``[[tie]]`` is ``C``); else the one that the text consists
    of."""
    marked = [_BARE_LABELS.get(label.lower().removeprefix("answer ")) for label in _MARKED.findall(text)]
    labels = [label for label in marked if label]
    if labels:
        return labels
    bare = _BARE.fullmatch(" ".join(re.sub(r"[\s*_`\"'().,:;!\[\]{}]+", " ", text).split()).lower())
    return [_BARE_LABELS[bare[1]]] if bare else []


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
