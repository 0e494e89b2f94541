"""What both kinds of FastChat's judgment files share: one judge, questions by category, means with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.mt_bench.layouts import CategorisedQuestion, Judgment, QuestionId, category_name, read_numbered_rows
from benchmarks.shared.judgment_files import refuse_mixture
from benchmarks.shared.score_report import ScoredMetric, is_enough
from harness.errors import UserError
from harness.score.columns import Array

OFFICIAL_FACTS = {"show_result": "show_result\n(official)", "differ": "rows that\ndiffer"}
"""Facts in the table: the official value, and how many rows FastChat counts otherwise."""


def judge_of_rows(rows: Sequence[Judgment], source: Path) -> str:
    """Name of the judge of all rows.

    Raises:
        UserError: there are several; ``source`` is named.
    """
    names = {row.judge for row in rows}
    refuse_mixture(f"{source} mixes", "judges", names)
    return names.pop() if names else "not named"


class Questions(NamedTuple):
    """Ids in order, and the category of each; no categories where they are not known."""

    order: list[QuestionId]
    category: dict[QuestionId, str]


def questions_of_rows(rows: Sequence[Judgment], questions: Path | None) -> Questions:
    """The questions of ``question.jsonl``, else those that stand in the rows.

    Raises:
        UserError: the file is missing or broken, or has texts as ids where the rows have numbers, or the reverse.
    """
    ids = {row.question_id for row in rows}
    category: dict[QuestionId, str] = {}
    if questions:
        category = {row.question_id: row.category for _, row in read_numbered_rows(questions, CategorisedQuestion)}
        if {type(number) for number in category} != {type(number) for number in ids}:
            raise UserError(
                f"{questions} has question_id {next(iter(category))!r} where the judgments have {next(iter(ids))!r}: "
                f"name the questions that were judged"
            )
    return Questions(_in_order(category or ids), category)


def _in_order(ids: Iterable[QuestionId]) -> list[QuestionId]:
    """Numbers by size, then texts."""
    ids = list(ids)
    return [*sorted(i for i in ids if isinstance(i, int)), *sorted(i for i in ids if isinstance(i, str))]


def mean_metric(name: str, unit: str, sums: Array, counts: Array, draw: Array, *, detail: bool = False) -> ScoredMetric:
    """Mean of sums over counts; questions are resampled, turns pooled as the official mean is. NaN for a model with a
    value for fewer than two of several questions.

    Args:
        name: of the metric.
        unit: of the metric.
        sums: of values, shape (models, questions, turns).
        counts: of values in those sums, in the same shape.
        draw: bootstrap counts of the questions, shape (R, questions).
        detail: :class:`ScoredMetric`.
    """
    sums, counts = sums.sum(2), counts.sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, samples = sums.sum(1) / counts.sum(1), (draw @ sums.T / (draw @ counts.T)).T
    valued = (counts > 0).sum(1)
    too_few = ~is_enough(valued, counts.shape[1])
    value[too_few], samples[too_few] = np.nan, np.nan
    return ScoredMetric(name, unit, value, samples, int((counts > 0).any(0).sum()), detail, valued)


def means_by_turn_and_category(
    name: str, unit: str, sums: Array, counts: Array, draw: Array, questions: Questions
) -> list[ScoredMetric]:
    """Means of both turns pooled, of each turn, and, as details, of each category.

    Args:
        name: of the pooled mean.
        unit: of all of them.
        sums: :func:`mean_metric`, with 2 turns.
        counts: likewise.
        draw: likewise.
        questions: in the order of the arrays.
    """
    counts = counts.astype(float)
    metrics = [mean_metric(name, unit, sums, counts, draw)]
    for turn in (1, 2):
        inside = slice(turn - 1, turn)
        metrics.append(mean_metric(f"turn_{turn}", unit, sums[..., inside], counts[..., inside], draw))
    category = questions.category
    for kind in dict.fromkeys(category[q] for q in questions.order) if category else ():
        chosen = np.array([category[q] == kind for q in questions.order])
        metrics.append(
            mean_metric(category_name(kind), unit, sums[:, chosen], counts[:, chosen], draw[:, chosen], detail=True)
        )
    return metrics
