"""Arena-Hard's verdicts, weights and style counts, v0.1 and v2.0 (spec/evals 2.1 to 2.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
# (the model's score, weight) when the model is assistant B, that is in game 1
_AS_B = {"A>>B": (0.0, 3), "A>B": (0.0, 1), "A=B": (0.5, 1), "B>A": (1.0, 1), "B>>A": (1.0, 3)}


def label(judgment: str) -> str | None:
    """v0.1: the label in double brackets as it stands, if all of them agree (else, or without one, None)."""
    found = _labels(judgment)
    return found[0] if len(set(found)) == 1 else None


def undecided(judgment: str) -> bool:
    """v0.1: no label at all, so that the judge is asked once more (labels that disagree are final)."""
    return not _labels(judgment)


def _labels(judgment: str) -> list[str]:
    return re.findall(r"\[\[([AB<>=]+)\]\]", judgment)


def label_v2(judgment: str) -> str | None:
    """v2.0: the last label in double brackets, else the last in single ones, in capital letters."""
    text = judgment.upper()
    for pattern in (r"\[\[([AB<>=]+)\]\]", r"\[([AB<>=]+)\]"):
        if found := [m for m in re.findall(pattern, text) if m]:
            return str(found[-1])
    return None


def slot(label: str | None) -> float | None:
    """1 where the answer shown first won, 0 where the second did, 0.5 for a tie; None for no valid label."""
    return None if label not in _AS_B else 1 - _AS_B[label][0]


def game(label: str | None, number: int) -> tuple[float, int] | None:
    """The model's score (0, 0.5 or 1) and the weight of a game; None for no valid label.

    Args:
        number: 1 where the baseline is assistant A, 2 where the model is.
    """
    if label not in _AS_B:
        return None
    score, weight = _AS_B[label]
    return (score if number == 1 else 1 - score), weight


def games(labels: Sequence[str | None], both: bool = False) -> tuple[float, float, int]:
    """Weighted wins, total weight and number of valid games of one prompt (game 1 first).

    A game without a valid label is left out; with ``both`` (v2.0) its partner is, too.
    """
    found = [game(value, i + 1) for i, value in enumerate(labels)]
    if both and None in found:
        return 0.0, 0.0, 0
    valid = [g for g in found if g is not None]
    return sum(s * w for s, w in valid), float(sum(w for _, w in valid)), len(valid)
