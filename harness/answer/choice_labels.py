"""The labels of a comparison (``A``, ``B``, ``C`` for a tie) that a text gives as its own verdict. Pure.

A marked label (``[[A]]``) that is part of a longer quotation, of a list of the possible labels, of a question or of a
denial is no verdict: judges repeat their instructions, and quote answers that ask for a label.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import NamedTuple

_BRACKETS = str.maketrans({"【": "[", "】": "]", "⟦": "[[", "⟧": "]]", "〚": "[[", "〛": "]]"})
_MARKED = re.compile(r"\[\[([^\[\]\n]{1,32})\]\]")

_NOISE = re.compile(r"<\|[^<>|]{1,30}\|>|</?s>|[\s*_`\"'“”„«»「」().,:;!\[\]{}#。、\ufeff\u200b-]+")
_BARE = re.compile(
    r"(?:(?:(?:my|the|final|better|best|answer|verdict|choice|decision|judge?ment|winner|option|response|assistant|label)"
    r" )+(?P<verb>is )?(?:(?:answer|option|response|assistant) )?)?"
    r"(?:(?P<letter>[abc])|(?:it (?:i?s) )?(?:an? )?(?:tie|draw)|c (?:tie|draw))",
    re.IGNORECASE,
)
LONGEST_BARE = 80
"""Characters of a reply that is nothing but a label, at most."""

_FENCE = re.compile(r"\s*```[^\n`]*\n(.*?)\n?```\s*", re.DOTALL)
_QUOTATION = re.compile(
    r"```.*?```|`[^`\n]+`|\"[^\"\n]{0,400}\"|“[^“”\n]{0,400}”|„[^„“”\n]{0,400}[“”]|«[^«»\n]{0,400}»|「[^「」\n]{0,400}」"
    r"|^[ \t]*>[^\n]*$",
    re.DOTALL | re.MULTILINE,
)
_MARKUP = r"[\s\"'`*_“”„«»「」]*"
_ONE_LABEL = re.compile(r"[^\w\[\]]*+(?:(?<=```)\w+\s)?[^\w\[\]]*\[\[[^\[\]\n]{1,32}\]\][^\w\[\]]*")
_LIST_GAP = re.compile(
    rf"{_MARKUP}(?:[,;、/|]{_MARKUP}(?:(?:or|and|oder|und){_MARKUP})?|(?:or|and|nor|vs\.?|oder|und|或者?|和|与){_MARKUP})"
    # or what the label stands for: [[A]] if answer A is better, [[B]] if ...
    rf"|{_MARKUP}(?:(?:if|for|when|means|meaning|wenn|falls|bei|für)\b|如果|表示|[(=:]|->|→)[^.!?。\[\]]{{0,100}}"
    rf"(?:[.。][^\S\n]*+\n\s*+(?:[-*•]|\d+[.)]){_MARKUP})?",
    re.IGNORECASE,
)
_DENIED = re.compile(rf"(?:\b(?:not|never|nicht|kein\w*)|n['’]t|不是)(?:\s+[\w'’]+){{0,2}}{_MARKUP}$", re.IGNORECASE)
_ASKED = re.compile(rf"{_MARKUP}[?？]")


class _Label(NamedTuple):
    label: str
    start: int
    end: int


def choice_labels(text: str) -> list[str]:
    """The labels that a text marks as its verdict, in order; else the one that the whole text consists of.

    Where the only labels are those of a list (``[[A]] or [[B]]``), they are returned, so that they contradict.
    """
    if label := bare_label(text):
        return [label]
    text = _own_words(_normalised(text))
    labels = [_Label(label, m.start(), m.end()) for m in _MARKED.finditer(text) if (label := _bare(m[1]))]
    if not labels:
        return []
    listed = _listed(text, labels)
    own = [f.label for i, f in enumerate(labels) if i not in listed and not _is_unmeant(text, f)]
    return own or [f.label for i, f in enumerate(labels) if i in listed]


def bare_label(text: str) -> str | None:
    """The label of a text that is nothing but a label, with or without a word such as *answer* before it; else None."""
    return _bare(_normalised(text)) if len(text) <= LONGEST_BARE else None


def marks_label(text: str) -> bool:
    """Whether a text holds a label in double brackets."""
    return any(_bare(m[1]) for m in _MARKED.finditer(_normalised(text)))


def _normalised(text: str) -> str:
    """Full-width letters and brackets, those of Chinese print, and brackets that Markdown escapes, as plain ones."""
    return re.sub(r"\\([\[\]])", r"\1", unicodedata.normalize("NFKC", text).translate(_BRACKETS))


def _bare(text: str) -> str | None:
    words = " ".join(_NOISE.sub(" ", text).split())
    match = _BARE.fullmatch(words) if len(words) <= LONGEST_BARE else None
    if match is None:
        return None
    letter = match["letter"] or "C"
    return None if letter.islower() and match["verb"] else letter.upper()  # "the answer is a" may be cut


def _own_words(text: str) -> str:
    """A text without quotations that hold more than a label. A frame around the whole text is none."""
    text = text.strip()
    if fence := _FENCE.fullmatch(text):
        text = fence[1].strip()
    elif len(text) > 1 and (text[0] + text[-1]) in ('""', "“”", "„“", "«»", "「」") and text.count(text[0]) <= 2:
        text = text[1:-1]
    return _QUOTATION.sub(lambda m: m[0] if _ONE_LABEL.fullmatch(m[0]) else " quotation ", text)


def _listed(text: str, labels: list[_Label]) -> set[int]:
    """Places in ``labels`` of those that a list of different labels holds."""
    runs: list[list[int]] = [[0]]
    for i, (before, after) in enumerate(pairwise(labels), start=1):
        is_new = all(labels[j].label != after.label for j in runs[-1])
        if is_new and _LIST_GAP.fullmatch(text, before.end, after.start):
            runs[-1].append(i)
        else:
            runs.append([i])
    return {i for run in runs if len(run) > 1 for i in run}


def _is_unmeant(text: str, label: _Label) -> bool:
    """Whether a label is denied or asked about."""
    before = text[max(0, label.start - 40) : label.start]
    return bool(_DENIED.search(before) or _ASKED.match(text, label.end))
