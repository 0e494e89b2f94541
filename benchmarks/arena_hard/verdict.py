"""Arena-Hard's verdicts and weights, v0.1 and v2.0 (spec/evals 2.1 to 2.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


class GameScore(NamedTuple):
    """The model's score of a game (0, 0.5 or 1) and its weight: a strong verdict counts three times."""

    score: float
    weight: int


class GameTotals(NamedTuple):
    """The games of one prompt: weighted wins, total weight and number of valid games."""

    wins: float
    weight: float
    valid: int


# The model's score when it is assistant B, that is in game 1
_SCORES_AS_B = {
    "A>>B": GameScore(0.0, 3),
    "A>B": GameScore(0.0, 1),
    "A=B": GameScore(0.5, 1),
    "B>A": GameScore(1.0, 1),
    "B>>A": GameScore(1.0, 3),
}


def read_label(judgment: str) -> str | None:
    """v0.1: the label in double brackets as it stands, if all of them agree (else, or without one, None)."""
    labels = _labels(judgment)
    return labels[0] if len(set(labels)) == 1 else None


def has_no_label(judgment: str) -> bool:
    """v0.1: no label at all, so that the judge is asked once more (labels that disagree are final)."""
    return not _labels(judgment)


def _labels(judgment: str) -> list[str]:
    return re.findall(r"\[\[([AB<>=]+)\]\]", judgment)


def read_label_v2(judgment: str) -> str | None:
    """v2.0: the last label in double brackets, else the last in single ones, in capital letters."""
    text = judgment.upper()
    for pattern in (r"\[\[([AB<>=]+)\]\]", r"\[([AB<>=]+)\]"):
        if labels := [label for label in re.findall(pattern, text) if label]:
            return str(labels[-1])
    return None


def first_slot_score(label: str | None) -> float | None:
    """1 where the answer shown first won, 0 where the second did, 0.5 for a tie; None for no valid label."""
    return None if label not in _SCORES_AS_B else 1 - _SCORES_AS_B[label].score


def game_score(label: str | None, number: int) -> GameScore | None:
    """The model's score and the weight of a game; None for no valid label.

    Args:
        label: the judge's.
        number: 1 where the baseline is assistant A, 2 where the model is.
    """
    if label not in _SCORES_AS_B:
        return None
    score, weight = _SCORES_AS_B[label]
    return GameScore(score if number == 1 else 1 - score, weight)


def game_scores(labels: Sequence[str | None]) -> list[GameScore | None]:
    """:func:`game_score` of a prompt's games, game 1 first."""
    return [game_score(label, number) for number, label in enumerate(labels, 1)]


def game_totals(labels: Sequence[str | None], both: bool = False) -> GameTotals:
    """Sums over the games of one prompt (game 1 first).

    A game without a valid label is left out; with ``both`` (v2.0) its partner is, too.
    """
    scores = game_scores(labels)
    if both and None in scores:
        return GameTotals(0.0, 0.0, 0)
    valid = [game for game in scores if game is not None]
    return GameTotals(sum(s * w for s, w in valid), float(sum(w for _, w in valid)), len(valid))
