"""``sail-bench score mt_bench``, single-answer ratings: FastChat's own file ``gpt-4_single.jsonl``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.mt_bench.file_means import OFFICIAL_FACTS, judge_of_rows, means_by_turn_and_category, questions_of_rows
from benchmarks.mt_bench.judge_prompts import REFERENCED
from benchmarks.mt_bench.layouts import QuestionId, SingleJudgment, read_numbered_rows
from benchmarks.mt_bench.verdict_single import RATING_RULE, Grades, QuestionTurn, fastchat_mean, grades_by_model
from benchmarks.shared.score_report import Count, ScoreReport, joint_draw
from harness.store.json_files import digest


def score_single_ratings(judgments: Path, questions_path: Path | None = None) -> ScoreReport:
    """Mean rating by model, by turn and (with ``questions_path``) by category; questions are resampled, both turns
    together.

    Ratings are read from the judgment texts; the stored scores count in rows without text, and in ``show_result``, the
    official mean. Of rows that repeat a question and turn the first valid one counts. Ratings outside 1-10 are not
    valid.

    Raises:
        UserError: a file that is missing or broken, or mixed judges.
    """
    rows = [row for _, row in read_numbered_rows(judgments, SingleJudgment)]
    judge = judge_of_rows(rows, judgments)
    questions = questions_of_rows(rows, questions_path)
    grades = grades_by_model(rows, questions.order)
    models = sorted(grades)
    draw = joint_draw(len(questions.order))
    ratings = np.array([[_ratings_of_question(grades[m], q) for q in questions.order] for m in models])
    valid = np.isfinite(ratings)  # (models, questions, 2 turns)
    sums = np.where(valid, ratings, 0)
    metrics = means_by_turn_and_category("rating", "rating 1-10", sums, valid, draw, questions)
    facts, warnings = {}, []
    for i, model in enumerate(models):
        problems = _problems(grades[model], set(questions.order))
        warnings += [f"{model}: {problem}" for problem in problems]
        facts[model] = {
            "rows": grades[model].rows,
            "rows_from_text": grades[model].from_text,
            "duplicates": grades[model].duplicates,
            "replaced": grades[model].replaced,
            "unparsed": grades[model].unparsed,
            "invalid": grades[model].invalid,
            "messy": bool(problems),
            "show_result": fastchat_mean(rows, model),
            "differ": grades[model].differ,
            "standard_error": metrics[0].interval(i).error,
        }
    protocol = {
        "benchmark": "mt_bench",
        "questions": digest(questions.order),
        "referenced": list(REFERENCED),
        "verdicts": f"of the judgment's text, else the stored score: {RATING_RULE}",
        "repeats": "the first valid row",
    }
    counts = [Count(int(v.sum()), v.size) for v in valid]
    return ScoreReport("MT-Bench", judge, protocol, models, counts, metrics, facts, warnings, OFFICIAL_FACTS)


def _ratings_of_question(grades: Grades, question: QuestionId) -> list[float]:
    """Both turns; NaN where there is none."""
    ratings = [grades.scores.get(QuestionTurn(question, turn)) for turn in (1, 2)]
    return [float("nan") if rating is None else rating for rating in ratings]


def _problems(grades: Grades, expected: set[QuestionId]) -> list[str]:
    problems = grades.problems
    if unexpected := sum(q not in expected or turn not in (1, 2) for q, turn in grades.scores):
        problems.append(f"{unexpected} rows are of no expected question and turn: they do not count")
    return problems
