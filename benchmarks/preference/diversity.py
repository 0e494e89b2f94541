"""Distinct-n of a set of answers, from counts of each answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Gram = tuple[str, ...]


def grams(text: str, n: int) -> list[Gram]:
    """Word n-grams of an answer, case folded, without punctuation."""
    words = re.findall(r"\w+", text.casefold())
    return list(zip(*(words[i:] for i in range(n)), strict=False))


class NgramCounts(NamedTuple):
    """Columns of the estimator ``distinct``: three small numbers an answer instead of its n-grams.

    Attributes:
        new: distinct n-grams of each answer that no earlier answer has; their sum is that of the set.
        only: distinct n-grams of each answer that no other answer has.
        total: all n-grams of each answer.
    """

    new: list[int]
    only: list[int]
    total: list[int]


def ngram_counts(texts: Sequence[str], n: int) -> NgramCounts:
    """Counts of word n-grams by answer."""
    by_answer = [grams(text, n) for text in texts]
    holders = Counter(gram for answer in by_answer for gram in set(answer))
    seen: set[Gram] = set()
    new, only = [], []
    for distinct in map(set, by_answer):
        new.append(len(distinct - seen))
        only.append(sum(holders[gram] == 1 for gram in distinct))
        seen |= distinct
    return NgramCounts(new, only, [len(answer) for answer in by_answer])
