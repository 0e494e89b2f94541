"""What a row says about its own label: scores of the two answers, a tie, a preference. Pure."""

from __future__ import annotations

import math
from reprlib import repr as short
from typing import Any, Literal, NamedTuple

from harness.pairs.row_texts import RawRow, is_absent
from harness.store.user_files import Malformed

SCORE_COLUMNS = (
    *(("score_chosen", "score_rejected"), ("chosen_score", "rejected_score")),
    *(("rating_chosen", "rating_rejected"), ("chosen_rating", "rejected_rating")),
    *(("reward_chosen", "reward_rejected"), ("chosen_reward", "rejected_reward")),
)
"""Names of the scores of the two answers. The first two with numbers count."""

LABEL_COLUMNS = ("tie", "preference")
"""Columns that may say that a row is a tie, or which answer is the better one."""

_TIES = ("tie", "tied", "equal", "same", "both", "neither")


class AnswerScores(NamedTuple):
    """Scores of the two answers, each None where there is none, and the ``columns`` that hold them."""

    chosen: float | None
    rejected: float | None
    columns: tuple[str, str]


def answer_scores(row: RawRow) -> AnswerScores:
    """The scores of a row.

    Raises:
        Malformed: ``score_chosen`` or ``score_rejected`` is no finite number. Under another name such a value is not
            used.
    """
    chosen, rejected = (_score(row, name) for name in SCORE_COLUMNS[0])
    for names in SCORE_COLUMNS[1:] if chosen is None and rejected is None else ():
        first, second = (_number(row.get(name)) for name in names)
        if first is not None and second is not None:
            return AnswerScores(first, second, names)
    return AnswerScores(chosen, rejected, SCORE_COLUMNS[0])


def _score(row: RawRow, key: str) -> float | None:
    value = row.get(key)
    if value is not None and _number(value) is None:
        raise Malformed(f"{key!r} must be a finite number, not {short(value)}")
    return _number(value)


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer beyond all floats
        pass
    return None


def label_of_row(row: RawRow) -> Literal["chosen", "tie"] | None:
    """What the columns ``tie`` and ``preference`` say; None if they say nothing.

    Raises:
        Malformed: ``preference`` says that the rejected answer is the better one, or ``tie`` says neither yes nor no.
    """
    tie, preference = (str(row[key]).strip().lower() if not is_absent(row.get(key)) else "" for key in LABEL_COLUMNS)
    if tie not in ("", "true", "1", "1.0", "yes", "false", "0", "0.0", "no"):
        raise Malformed(f"'tie' must be true or false, not {short(row['tie'])}")
    if preference == "rejected":
        raise Malformed(
            "'preference' says that the rejected answer is the better one: exchange 'chosen' and 'rejected', or leave "
            "out the row"
        )
    if tie in ("true", "1", "1.0", "yes") or preference in _TIES:
        return "tie"
    return "chosen" if preference == "chosen" or (tie and not preference) else None
