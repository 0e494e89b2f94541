"""Whether training prompts are evaluation prompts: equal but for case, space and punctuation, or nearly so. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

RUN, NEAR = 13, 0.5

_ALONE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")  # written without spaces


def normal(text: str) -> str:
    """A text without case, punctuation and white space; itself if nothing else is in it."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def runs(normalised: str) -> set[tuple[str, ...]]:
    """All runs of :data:`RUN` words, a Chinese or Japanese character being one; none of a shorter text."""
    alone = _ALONE.search(normalised) is not None
    words = _ALONE.sub(r" \g<0> ", normalised).split() if alone else normalised.split(" ")
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


@dataclass(frozen=True)
class Overlap:
    """Places of the texts that equal an evaluation text, that nearly do, and that share some run of words with one."""

    equal: list[int]
    near: list[int]
    shared: list[int]


def overlap(texts: Iterable[str], evaluation: Sequence[str]) -> Overlap:
    """Compare texts with evaluation texts.

    Nearly equal: at least half of the runs of 13 words of one of the two (n-grams as in arXiv 2005.14165, C) are in
    the other. Fewer shared runs, such as an instruction that many prompts begin with, are told apart.
    """
    return _overlap(tuple(texts), tuple(evaluation))


@lru_cache(maxsize=16)  # each run of a comparison asks again
def _overlap(texts: tuple[str, ...], evaluation: tuple[str, ...]) -> Overlap:
    wanted = [normal(text) for text in evaluation]
    known, sizes = set(wanted), []
    places: dict[tuple[str, ...], list[int]] = {}
    for place, text in enumerate(wanted):
        found = runs(text)
        sizes.append(len(found))
        for run in found:
            places.setdefault(run, []).append(place)
    equal, near, shared = [], [], []
    for index, text in enumerate(map(normal, texts)):
        if text in known:
            equal.append(index)
            continue
        own = runs(text) if places else set()
        common = Counter(place for run in own for place in places.get(run, ()))
        if any(n >= NEAR * min(len(own), sizes[place]) for place, n in common.items()):
            near.append(index)
        elif common:
            shared.append(index)
    return Overlap(equal, near, shared)
