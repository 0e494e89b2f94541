"""Arena-Hard's verdicts and weights, v0.1 and v2.0 (arXiv 2406.11939)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from harness.answer.reply import Reply
from harness.answer.verdict import CUT, NO_LABEL, Rule, Verdict, read_labels
from harness.score.bradley_terry import Version

UNKNOWN_LABEL = "unknown label"

RULES: dict[Version, Rule] = {"v0.1": "only", "v2.0": "last"}
"""Which of several labels counts: in v0.1 all must agree, in v2.0 it is the last."""


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

# Labels that v2.0's show_result.py takes for one of these
_MIRRORED = {"B<<A": "A>>B", "B<A": "A>B", "B=A": "A=B", "A<B": "B>A", "A<<B": "B>>A"}


def known_label(label: str, version: Version) -> str | None:
    """The label that a text or a file means; None for one that the version does not know."""
    label = _MIRRORED.get(label, label) if version == "v2.0" else label
    return label if label in _SCORES_AS_B else None


def read_label(reply: Reply | str, version: Version) -> Verdict[str]:
    """The judge's label, or why there is none.

    v0.1: in double brackets as it stands, if all of them agree. v2.0: the last in double brackets, else the last in
    single ones, in capital letters.

    Args:
        reply: of the judge, or the text that a file holds. Thinking is dropped.
        version: of Arena-Hard.
    """
    label, reason = read_labels(reply, _labels if version == "v0.1" else _labels_v2, RULES[version])
    if label is None:
        return Verdict(None, reason)
    valid = known_label(label, version)
    return Verdict(None, UNKNOWN_LABEL) if valid is None else Verdict(valid)


def is_asked_again(reply: Reply) -> bool:
    """v0.1: whether the judge wrote something without a label, so that it is asked once more. Labels that disagree are
    final, and so is thinking that never ends."""
    return bool(reply.text) and read_label(reply, "v0.1").reason in (NO_LABEL, CUT)


def _labels(text: str) -> list[str]:
    return re.findall(r"\[\[([AB<>=]+)\]\]", text)


def _labels_v2(text: str) -> list[str]:
    return re.findall(r"\[\[([AB<>=]+)\]\]", text.upper()) or re.findall(r"\[([AB<>=]+)\]", text.upper())


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
