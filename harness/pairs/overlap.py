"""Which training prompts are evaluation prompts: equal but for case, space and punctuation, or nearly so. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

RUN_LENGTH = 13
"""Words of a run, as in the overlap analysis of GPT-3 (arXiv 2005.14165, appendix C)."""

NEAR_SHARE = 0.5
"""Share of common runs from which two texts count as nearly equal."""

_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")  # scripts without spaces


def normalised(text: str) -> str:
    """A text without case, punctuation and white space; itself if nothing else is in it."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def split_words(normalised_text: str) -> list[str]:
    """The words of a text; a Chinese or Japanese character is a word."""
    if _UNSPACED.search(normalised_text) is not None:
        return _UNSPACED.sub(r" \g<0> ", normalised_text).split()
    return normalised_text.split(" ")


def word_runs(normalised_text: str) -> set[tuple[str, ...]]:
    """All runs of :data:`RUN_LENGTH` words; a shorter text has none."""
    words = split_words(normalised_text)
    return {tuple(words[i : i + RUN_LENGTH]) for i in range(len(words) - RUN_LENGTH + 1)}


@dataclass(frozen=True)
class Overlap:
    """Indices of the texts that equal an evaluation text, that nearly do, and that only share some run with one."""

    equal: list[int]
    near: list[int]
    shared: list[int]


def find_overlap(texts: Iterable[str], evaluation: Sequence[str]) -> Overlap:
    """Compare texts with evaluation texts.

    Two texts are nearly equal if at least half of the runs of one of them are in the other. Fewer common runs (an
    instruction that many prompts begin with, say) are reported apart, as ``shared``.
    """
    return _find_overlap(tuple(texts), tuple(evaluation))


@lru_cache(maxsize=16)  # every run of a comparison asks for the same texts
def _find_overlap(texts: tuple[str, ...], evaluation: tuple[str, ...]) -> Overlap:
    evaluation_texts = [normalised(text) for text in evaluation]
    distinct = set(evaluation_texts)
    run_counts: list[int] = []
    texts_with_run: dict[tuple[str, ...], list[int]] = {}
    for index, text in enumerate(evaluation_texts):
        runs = word_runs(text)
        run_counts.append(len(runs))
        for run in runs:
            texts_with_run.setdefault(run, []).append(index)
    equal, near, shared = [], [], []
    for index, text in enumerate(map(normalised, texts)):
        if text in distinct:
            equal.append(index)
            continue
        runs = word_runs(text) if texts_with_run else set()
        common = Counter(other for run in runs for other in texts_with_run.get(run, ()))
        if any(count >= NEAR_SHARE * min(len(runs), run_counts[other]) for other, count in common.items()):
            near.append(index)
        elif common:
            shared.append(index)
    return Overlap(equal, near, shared)
