"""MT-Bench's single-answer ratings (spec/evals 3): how a rating is read, and which rows of a file are doubtful."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_DOUBLE, _SINGLE = re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]")


def read_rating(judgment: str) -> float | None:
    """The first number in double brackets, else in single ones; None if there is none."""
    match = _DOUBLE.search(judgment) or _SINGLE.search(judgment)
    return float(match.group(1)) if match else None


class QuestionTurn(NamedTuple):
    """A question's id, and its turn (1 or 2)."""

    question: int
    turn: int


@dataclass
class Grades:
    """Ratings of one model, and what is wrong with the file that they came from.

    Attributes:
        scores: by question and turn; None for a rating that could not be read.
        rows: of the model in the file.
        duplicates: rows that repeat a question and turn.
        unparsed: ratings of -1.
        out_of_range: ratings outside 1-10.
        missing: expected question turns without a row.
    """

    scores: dict[QuestionTurn, float | None] = field(default_factory=dict)
    rows: int = 0
    duplicates: int = 0
    unparsed: int = 0
    out_of_range: int = 0
    missing: list[QuestionTurn] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Sentences on what keeps these ratings from being one clean run; empty if nothing does."""
        sentences = []
        if self.duplicates:
            sentences.append(
                f"{self.duplicates} rows repeat a question and turn: the judge ran more than once, and no rule says "
                f"which run counts"
            )
        if self.unparsed:
            sentences.append(f"{self.unparsed} ratings could not be read (-1)")
        if self.out_of_range:
            sentences.append(f"{self.out_of_range} ratings lie outside 1-10")
        if self.missing:
            sentences.append(f"{len(self.missing)} of the expected ratings are missing")
        return sentences


def grades_by_model(rows: Sequence[Mapping[str, Any]], questions: Sequence[int] = ()) -> dict[str, Grades]:
    """Ratings by model. The first row of a question and turn is kept, repeats are counted; -1 is no rating.

    Args:
        rows: of FastChat's judgment file.
        questions: ids that each model should have in both turns (none: those in the file).
    """
    ids = questions or {int(r["question_id"]) for r in rows}
    expected = {QuestionTurn(question, turn) for question in ids for turn in (1, 2)}
    by_model: dict[str, Grades] = {}
    for row in rows:
        grades = by_model.setdefault(str(row["model"]), Grades())
        key = QuestionTurn(int(row["question_id"]), int(row["turn"]))
        value = float(row["score"])
        grades.rows += 1
        grades.unparsed += value == -1
        grades.out_of_range += value != -1 and not 1 <= value <= 10
        if key in grades.scores:
            grades.duplicates += 1
        else:
            grades.scores[key] = None if value == -1 else value
    for grades in by_model.values():
        grades.missing = sorted(expected - set(grades.scores))
    return by_model


def fastchat_mean(rows: Sequence[Mapping[str, Any]], model: str) -> float:
    """What FastChat's ``show_result`` prints: the mean over all rows but -1, repeats included. For comparison only."""
    values = [float(r["score"]) for r in rows if r["model"] == model and float(r["score"]) != -1]
    return sum(values) / len(values) if values else float("nan")
