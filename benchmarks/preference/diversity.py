"""Distinct-n of a set of answers, from counts of each answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

Gram = tuple[str, ...]


def grams(text: str, n: int) -> list[Gram]:
    """Word n-grams of an answer, case folded, without punctuation."""
    words = re.findall(r"\w+", text.casefold())
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def novelty(texts: Sequence[str], n: int) -> tuple[list[int], list[int], list[int]]:
    """For each answer: how many distinct n-grams it has that no earlier answer has, how many that no other answer has,
    and how many n-grams in all. The first sums to the distinct n-grams of the set, the last to all of them.

    These are the columns of the estimator ``distinct``: three small numbers an answer instead of its n-grams.
    """
    found = [grams(text, n) for text in texts]
    holders = Counter(gram for each in found for gram in set(each))
    seen: set[Gram] = set()
    new, only = [], []
    for each in map(set, found):
        new.append(len(each - seen))
        only.append(sum(holders[gram] == 1 for gram in each))
        seen |= each
    return new, only, [len(each) for each in found]
