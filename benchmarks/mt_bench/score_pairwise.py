"""``sail-bench score mt_bench``, pairwise games: FastChat's own file ``gpt-4_pair.jsonl``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mt_bench.file_means import (
    OFFICIAL_FACTS,
    judge_of_rows,
    mean_metric,
    means_by_turn_and_category,
    questions_of_rows,
)
from benchmarks.mt_bench.judge_prompts import REFERENCED
from benchmarks.mt_bench.layouts import PairwiseJudgment, QuestionId, read_numbered_rows
from benchmarks.mt_bench.verdict_pairwise import WINNER_RULE, JudgedPair, fastchat_win_rate, judged_pair
from benchmarks.shared.judgment_files import CountedRows, first_valid_rows, nonempty_rows
from benchmarks.shared.score_report import Count, ScoredMetric, ScoreReport, joint_draw
from harness.errors import UserError, unknown
from harness.score.columns import Array
from harness.store.json_files import digest

_PROBLEMS = {
    "duplicates": "{} rows repeat a pair, question and turn: the first valid one counts",
    "replaced": "{} failed rows replaced by a re-run",
    "differ": "{} rows have a judgment that says another winner than the stored one; the text counts",
    "missing": "{} of the expected questions and turns are missing",
    "unexpected": "{} rows are of no expected question and turn",
}


def holds_pairwise_rows(judgments: Path) -> bool:
    """Whether a judgment file holds pairwise rows.

    Raises:
        UserError: it holds both kinds or nothing, or cannot be read.
    """
    kinds = {"g1_winner" in row for row in nonempty_rows(judgments, ["question_id"])}
    if len(kinds) > 1:
        raise UserError(f"{judgments} mixes pairwise and single-answer rows: score each by itself")
    return kinds == {True}


def score_pairwise_games(
    judgments: Path, questions_path: Path | None = None, baseline: str | None = None
) -> ScoreReport:
    """Adjusted win rate (ties half) by model, by turn and (with ``questions_path``) by category; questions are
    resampled.

    Winners are read from the judgment texts; the stored ones count in rows without text, and in ``show_result``, the
    official rate. A row with a game without a verdict is not valid. Of rows that repeat a pair, question and turn the
    first valid one counts.

    Args:
        judgments: the file.
        questions_path: ``question.jsonl``, for categories and the questions to expect.
        baseline: count games against this model only; None for the model that stands in every row, else a model's
            games against all its opponents count.

    Raises:
        UserError: a file that is missing or broken, mixed judges, or a baseline that played no game.
    """
    rows = _read_games(judgments)
    players = _players(rows)
    if baseline is not None and baseline not in players:
        raise unknown("model", baseline, players)
    rows = [row for row in rows if baseline is None or baseline in (row.model_1, row.model_2)]
    judge, opponent = judge_of_rows(rows, judgments), baseline or _common_baseline(rows)
    questions = questions_of_rows(rows, questions_path)
    models = sorted(_players(rows) - {opponent})
    pairs = first_valid_rows(map(judged_pair, rows), _pair_key, lambda pair: pair.points is not None)
    sums, draw = _sums(pairs.counted, models, questions.order), joint_draw(len(questions.order))
    valid = sums["valid"]
    metrics = means_by_turn_and_category("win_rate_adjusted", "win %", sums["points"], valid, draw, questions)
    metrics += _details(sums, draw)
    facts, warnings, counts = {}, [], []
    for i, model in enumerate(models):
        opponents = {row.model_1 if row.model_2 == model else row.model_2 for row in rows if model in _sides(row)}
        expected = 2 * len(questions.order) * len(opponents)
        counts.append(Count(int(valid[i].sum()), expected))
        model_facts = _facts(model, pairs, int(sums["total"][i].sum()), expected)
        sentences = _problems(model_facts)
        warnings += [f"{model}: {sentence}" for sentence in sentences]
        model_facts |= {"messy": bool(sentences), "show_result": 100 * fastchat_win_rate(rows, model)}
        facts[model] = model_facts | {"against": opponent or f"all others ({len(opponents)})"}
    protocol = {
        "benchmark": "mt_bench_pairwise",
        "questions": digest(questions.order),
        "referenced": list(REFERENCED),
        "baseline": opponent or "all other models",
        "verdicts": f"of the judgments' texts, else the stored winners: {WINNER_RULE}",
        "repeats": "the first valid row",
    }
    shown = {"against": "baseline", **OFFICIAL_FACTS}
    return ScoreReport("MT-Bench pairwise", judge, protocol, models, counts, metrics, facts, warnings, shown)


def _read_games(judgments: Path) -> list[PairwiseJudgment]:
    rows = read_numbered_rows(judgments, PairwiseJudgment)
    for place, row in rows:
        if row.model_1 == row.model_2:
            raise UserError(f"{judgments}, {place}: model_1 and model_2 are both {row.model_1!r}: remove the row")
    return [row for _, row in rows]


def _sides(row: PairwiseJudgment) -> tuple[str, str]:
    return row.model_1, row.model_2


def _players(rows: Sequence[PairwiseJudgment]) -> set[str]:
    return {model for row in rows for model in _sides(row)}


def _common_baseline(rows: Sequence[PairwiseJudgment]) -> str | None:
    """The model that stands in every row (of two such, the one that is always ``model_2``); None if there is none."""
    everywhere = set.intersection(*(set(_sides(row)) for row in rows))
    second = {row.model_2 for row in rows}
    common = everywhere if len(everywhere) == 1 else everywhere & second if len(second) == 1 else set()
    return next(iter(common), None)


def _pair_key(pair: JudgedPair) -> tuple[object, ...]:
    return (*sorted(_sides(pair.row)), pair.row.question_id, pair.row.turn)


def _sums(pairs: Sequence[JudgedPair], models: Sequence[str], order: Sequence[QuestionId]) -> dict[str, Array]:
    """Sums over opponents, each (models, questions, 2 turns): rows (``total``, ``valid``), hundredths of points
    (``points``, ``win``, ``tie``, ``loss``, ``agree``), games with a verdict and the first slot's points in them
    (``slot``)."""
    model_places = {model: i for i, model in enumerate(models)}
    question_places = {question: i for i, question in enumerate(order)}
    names = ("total", "valid", "points", "win", "tie", "loss", "agree", "games", "slot")
    sums = {name: np.zeros((len(models), len(order), 2)) for name in names}
    for pair in pairs:
        question, turn = pair.row.question_id, pair.row.turn
        if question not in question_places or turn not in (1, 2):
            continue
        for side, model in enumerate(_sides(pair.row), 1):
            if model in model_places:
                at = model_places[model], question_places[question], turn - 1
                for name, value in _contributions(pair, side).items():
                    sums[name][at] += value
    return sums


def _contributions(pair: JudgedPair, side: int) -> dict[str, float]:
    """What a row adds to the sums of its ``model_<side>``."""
    first, second = (game.value for game in pair.games)
    first_slot = [v for v in (first, None if second is None else 1 - second) if v is not None]
    values = {"total": 1.0, "games": len(first_slot), "slot": 100 * sum(first_slot)}
    if pair.points is not None:
        points = pair.points if side == 1 else 1 - pair.points
        values |= {"valid": 1, "points": 100 * points, "agree": 100 * (first == second)}
        values |= {"win": 100 * (points == 1), "tie": 100 * (points == 0.5), "loss": 100 * (points == 0)}
    return values


def _details(sums: dict[str, Array], draw: Array) -> list[ScoredMetric]:
    """Shares of wins, ties, losses and pairs of games that agree; and of games that the first slot won."""
    shares = [
        mean_metric(name, "%", sums[name], sums["valid"], draw, detail=True) for name in ("win", "tie", "loss", "agree")
    ]
    return [*shares, mean_metric("first_slot", "%", sums["slot"], sums["games"], draw, detail=True)]


def _facts(model: str, pairs: CountedRows[JudgedPair], rows_counted: int, expected: int) -> dict[str, Any]:
    """A model's rows, counted.

    Args:
        model: whose rows.
        pairs: of all models.
        rows_counted: of the expected questions and turns, one for each and each opponent.
        expected: how many there should be.
    """
    counted, replaced, repeats = ([p for p in part if model in _sides(p.row)] for part in pairs)
    invalid = Counter(pair.reason for pair in counted if pair.points is None)
    everything = [*counted, *replaced, *repeats]
    return {
        "rows": len(everything),
        "rows_from_text": sum(pair.from_text for pair in everything),
        "duplicates": len(replaced) + len(repeats),
        "replaced": len(replaced),
        "differ": sum(pair.differs for pair in everything),
        "errors": sum(invalid.values()),
        "invalid": dict(invalid),
        "missing": expected - rows_counted,
        "unexpected": len(counted) - rows_counted,
    }


def _problems(facts: dict[str, Any]) -> list[str]:
    """Sentences on what keeps a model's rows from being one clean run."""
    counts = dict(facts)
    if facts["duplicates"] == facts["replaced"]:
        counts["duplicates"] = 0  # no more than the re-runs, which have a sentence of their own
    sentences = [sentence.format(counts[key]) for key, sentence in _PROBLEMS.items() if counts[key]]
    if facts["invalid"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in facts["invalid"].items())
        sentences.append(f"{facts['errors']} rows have a game without a verdict ({reasons})")
    return sentences
