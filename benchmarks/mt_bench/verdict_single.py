"""MT-Bench's single-answer ratings (arXiv 2306.05685): how a rating is read, and which rows of a file count."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.mt_bench.layouts import QuestionId, SingleJudgment
from benchmarks.mt_bench.stored_text import STORED_AS_FAILED, judgment_text
from benchmarks.shared.judgment_files import first_valid_rows
from harness.answer import verdict
from harness.answer.reply import Reply
from harness.answer.verdict import OUT_OF_RANGE, Verdict
from harness.score.validity import NO_VALUE, NOT_FINITE

SCALE = (1.0, 10.0)

RATING_RULE = "[[n]], else [n], after the thinking; 1 to 10; different ratings contradict"


def read_rating(judgment: Reply | str) -> Verdict[float]:
    """The rating of a judgment, or why it has none. FastChat takes the first ``[[n]]``, of any size."""
    return verdict.read_rating(judgment, *SCALE)


def official_score(row: SingleJudgment) -> float | None:
    """The score that FastChat's mean counts for a row; None for one that it passes over."""
    return None if row.score is None or math.isnan(row.score) or row.score == -1 else row.score


class GradedRow(NamedTuple):
    """A row, its rating as we read it, and whether that stands in the judgment's text (else in the stored score)."""

    row: SingleJudgment
    rating: Verdict[float]
    from_text: bool

    @property
    def differs(self) -> bool:
        """Whether FastChat counts another score, or counts one where we count none."""
        return self.rating.value != official_score(self.row)


def graded_row(row: SingleJudgment) -> GradedRow:
    """The rating of a row: its judgment's text decides; the stored score does where there is no text."""
    text = judgment_text(row.judgment)
    if text is not None:
        return GradedRow(row, read_rating(text), from_text=True)
    return GradedRow(row, _stored_rating(row.score), from_text=False)


def _stored_rating(score: float | None) -> Verdict[float]:
    if score is None:
        return Verdict(None, NO_VALUE)
    if not math.isfinite(score):
        return Verdict(None, NOT_FINITE)
    if score == -1:
        return Verdict(None, STORED_AS_FAILED)
    return Verdict(score) if SCALE[0] <= score <= SCALE[1] else Verdict(None, OUT_OF_RANGE)


class QuestionTurn(NamedTuple):
    """A question's id, and its turn (1 or 2)."""

    question: QuestionId
    turn: int


@dataclass
class Grades:
    """Ratings of one model, and what is wrong with the file that they came from.

    Attributes:
        scores: by question and turn; None where no row has a valid rating.
        invalid: how many of these are None, by reason.
        rows: of the model in the file.
        duplicates: rows that repeat a question and turn.
        replaced: those of them that are the re-run of a failed row.
        unparsed: rows without a valid rating, repeats included.
        differ: rows for which FastChat counts another score.
        from_text: rows that were read from the judgment's text.
        missing: expected question turns without a row.
    """

    scores: dict[QuestionTurn, float | None] = field(default_factory=dict)
    invalid: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    duplicates: int = 0
    replaced: int = 0
    unparsed: int = 0
    differ: int = 0
    from_text: int = 0
    missing: list[QuestionTurn] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Sentences on what keeps these ratings from being one clean run; empty if nothing does."""
        sentences = []
        if self.duplicates > self.replaced:
            sentences.append(f"{self.duplicates} rows repeat a question and turn: the first valid one counts")
        if self.replaced:
            sentences.append(f"{self.replaced} failed rows replaced by a re-run")
        if self.invalid:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.invalid.items())
            sentences.append(f"{sum(self.invalid.values())} ratings are not valid ({reasons})")
        if self.differ:
            sentences.append(
                f"{self.differ} rows differ from the stored score: the text counts where there is one, from 1 to 10"
            )
        if self.missing:
            sentences.append(f"{len(self.missing)} of the expected ratings are missing")
        return sentences


def grades_by_model(rows: Iterable[SingleJudgment], questions: Sequence[QuestionId] = ()) -> dict[str, Grades]:
    """Ratings by model: of a question and turn the first valid row.

    Args:
        rows: of FastChat's judgment file.
        questions: ids that each model should have in both turns (none: those in the file).
    """
    by_model: dict[str, list[GradedRow]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(graded_row(row))
    ids = set(questions) or {graded.row.question_id for graded_rows in by_model.values() for graded in graded_rows}
    expected = [QuestionTurn(question, turn) for question in ids for turn in (1, 2)]
    return {model: _grades(graded_rows, expected) for model, graded_rows in by_model.items()}


def _grades(rows: Sequence[GradedRow], expected: Sequence[QuestionTurn]) -> Grades:
    """Grades of one model."""
    chosen = first_valid_rows(rows, _question_turn, lambda graded: graded.rating.value is not None)
    scores = {_question_turn(graded): graded.rating.value for graded in chosen.counted}
    return Grades(
        scores=scores,
        invalid=dict(Counter(graded.rating.reason for graded in chosen.counted if graded.rating.value is None)),
        rows=len(rows),
        duplicates=len(chosen.replaced) + len(chosen.repeats),
        replaced=len(chosen.replaced),
        unparsed=sum(graded.rating.value is None for graded in rows),
        differ=sum(graded.differs for graded in rows),
        from_text=sum(graded.from_text for graded in rows),
        missing=[key for key in expected if key not in scores],
    )


def _question_turn(graded: GradedRow) -> QuestionTurn:
    return QuestionTurn(graded.row.question_id, graded.row.turn)


def fastchat_mean(rows: Iterable[SingleJudgment], model: str) -> float:
    """What FastChat's ``show_result`` prints: the mean over all stored scores but -1, repeats included."""
    values = [score for row in rows if row.model == model and (score := official_score(row)) is not None]
    return sum(values) / len(values) if values else float("nan")
