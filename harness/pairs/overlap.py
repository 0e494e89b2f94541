"""Which training prompts are evaluation prompts: equal but for case, space and punctuation, or nearly so. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

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


Likeness = Literal["equal", "near", "shared"]
LIKENESSES: tuple[Likeness, ...] = get_args(Likeness)


@dataclass(frozen=True)
class Overlap:
    """Indices of the texts that equal an evaluation text, that nearly do, and that only share some run with one."""

    equal: list[int]
    near: list[int]
    shared: list[int]


class EvaluationTexts:
    """Texts that others are compared with.

    Two texts are nearly equal if at least half of the runs of one of them are in the other. Fewer common runs (an
    instruction that many prompts begin with, say) are told apart, as ``shared``.
    All texts are given normalised (:func:`normalised`).
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._run_counts: list[int] = []
        self._distinct: set[str] = set()
        self._texts_with_run: dict[tuple[str, ...], list[int]] = {}
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a text."""
        runs = word_runs(text)
        for run in runs:
            self._texts_with_run.setdefault(run, []).append(len(self._run_counts))
        self._distinct.add(text)
        self._run_counts.append(len(runs))

    def compare(self, text: str) -> Likeness | None:
        """How a text is like one of these; None if it shares no run with any."""
        if text in self._distinct:
            return "equal"
        runs = word_runs(text) if self._texts_with_run else set()
        common = Counter(other for run in runs for other in self._texts_with_run.get(run, ()))
        if any(count >= NEAR_SHARE * min(len(runs), self._run_counts[other]) for other, count in common.items()):
            return "near"
        return "shared" if common else None


def find_overlap(texts: Iterable[str], evaluation: Iterable[str]) -> Overlap:
    """Compare texts with evaluation texts.

    Args:
        texts: as they are; taken one by one.
        evaluation: as they are.
    """
    evaluation_texts, places = EvaluationTexts(map(normalised, evaluation)), Overlap([], [], [])
    for index, text in enumerate(texts):
        likeness = evaluation_texts.compare(normalised(text))
        if likeness is not None:
            getattr(places, likeness).append(index)
    return places
