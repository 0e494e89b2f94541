"""``sail-bench score mt_bench``, single-answer ratings: FastChat's own file ``gpt-4_single.jsonl``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.mt_bench.file_means import judge_of_rows, means_by_turn_and_category, questions_of_rows
from benchmarks.mt_bench.judge_prompts import REFERENCED
from benchmarks.mt_bench.verdict_single import Grades, QuestionTurn, fastchat_mean, grades_by_model, read_rating
from benchmarks.shared.judgment_files import nonempty_rows
from benchmarks.shared.score_report import Count, ScoreReport, joint_draw
from harness.store.json_files import digest


def score_single_ratings(judgments: Path, questions_path: Path | None = None) -> ScoreReport:
    """Mean rating by model, by turn and (with ``questions_path``) by category; questions are resampled, both turns
    together.

    Ratings are read from the judgment texts again, and those that differ from the stored ones are reported. Rows that
    repeat a question and turn are counted and reported; the first one stands, so that no average hides two runs.
    Ratings outside 1-10 are reported and averaged, as the official mean has them (spec/evals 3: no range check).

    Raises:
        UserError: a file that is missing or broken, or mixed judges.
    """
    rows = nonempty_rows(judgments, ["question_id", "model", "turn", "score"])
    judge = judge_of_rows(rows, judgments)
    warnings = []
    differ = sum(isinstance(r.get("judgment"), str) and _stored_rating(r["judgment"]) != r["score"] for r in rows)
    if differ:
        warnings.append(f"{differ} stored scores are not what their judgment text says; the stored ones count")
    questions = questions_of_rows(rows, questions_path)
    grades = grades_by_model(rows, questions.order)
    models = sorted(grades)
    draw = joint_draw(len(questions.order))
    ratings = np.array([[_ratings_of_question(grades[m], q) for q in questions.order] for m in models])
    valid = np.isfinite(ratings)  # (models, questions, 2 turns)
    sums = np.where(valid, ratings, 0)
    metrics = means_by_turn_and_category("rating", "rating 1-10", sums, valid, draw, questions)
    facts = {}
    for i, model in enumerate(models):
        problems = _problems(grades[model], set(questions.order))
        warnings += [f"{model}: {problem}" for problem in problems]
        facts[model] = {
            "rows": grades[model].rows,
            "duplicates": grades[model].duplicates,
            "unparsed": grades[model].unparsed,
            "messy": bool(problems),
            "show_result": fastchat_mean(rows, model),
            "standard_error": metrics[0].interval(i).error,
        }
    return ScoreReport(
        "MT-Bench",
        judge,
        {"benchmark": "mt_bench", "questions": digest(questions.order), "referenced": list(REFERENCED)},
        models,
        [Count(int(v.sum()), v.size) for v in valid],
        metrics,
        facts,
        warnings,
    )


def _ratings_of_question(grades: Grades, question: int) -> list[float]:
    """Both turns; NaN where there is none."""
    ratings = [grades.scores.get(QuestionTurn(question, turn)) for turn in (1, 2)]
    return [float("nan") if rating is None else rating for rating in ratings]


def _stored_rating(judgment: str) -> float:
    """A judgment's rating as FastChat stores it: -1 where there is none."""
    rating = read_rating(judgment)
    return -1.0 if rating is None else rating


def _problems(grades: Grades, expected: set[int]) -> list[str]:
    problems = grades.problems
    if grades.out_of_range:
        problems.append("the ratings outside 1-10 are averaged as they are, as in the official mean")
    if unexpected := sum(q not in expected or turn not in (1, 2) for q, turn in grades.scores):
        problems.append(f"{unexpected} rows are of no expected question and turn: they do not count")
    return problems
