"""``sail-bench score mt_bench``, pairwise games: FastChat's own file ``gpt-4_pair.jsonl``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.mt_bench.file_means import judge_of_rows, mean_metric, means_by_turn_and_category, questions_of_rows
from benchmarks.mt_bench.judge_prompts import REFERENCED
from benchmarks.mt_bench.verdict_pairwise import fastchat_win_rate, pair_points, read_winner
from benchmarks.shared.judgment_files import nonempty_rows
from benchmarks.shared.score_report import Count, ScoredMetric, ScoreReport, joint_draw
from harness.benchmark import Row
from harness.errors import UserError, unknown
from harness.score.columns import Array
from harness.store.json_files import digest

_KEYS = ["question_id", "model_1", "model_2", "g1_winner", "g2_winner", "turn"]

_MODEL_1_POINTS = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5}

_PROBLEMS = {
    "duplicates": "{} rows repeat a pair, question and turn: the first counts",
    "errors": "{} rows have a game without a verdict (error)",
    "contradictions": "{} rows have a judgment that says another winner; the stored ones count",
    "missing": "{} of the expected questions and turns are missing",
    "unexpected": "{} rows are of no expected question and turn",
}


class FirstAndRepeats(NamedTuple):
    """The first row of each pair of models, question and turn, and the repeats."""

    first: list[Row]
    repeats: list[Row]


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

    A row with a game without a verdict is not valid; rows that repeat a pair, question and turn are counted, and the
    first stands.

    Args:
        judgments: the file.
        questions_path: ``question.jsonl``, for categories and the questions to expect.
        baseline: count games against this model only; None for the model that stands in every row, else a model's
            games against all its opponents count.

    Raises:
        UserError: a file that is missing or broken, mixed judges, or a baseline that played no game.
    """
    rows = nonempty_rows(judgments, _KEYS)
    players = _players(rows)
    if baseline is not None and baseline not in players:
        raise unknown("model", baseline, players)
    rows = [r for r in rows if baseline is None or baseline in (r["model_1"], r["model_2"])]
    judge, opponent = judge_of_rows(rows, judgments), baseline or _common_baseline(rows)
    questions = questions_of_rows(rows, questions_path)
    models = sorted(_players(rows) - {str(opponent)})
    split = _split(rows)
    sums, draw = _sums(split.first, models, questions.order), joint_draw(len(questions.order))
    valid = sums["valid"]
    metrics = means_by_turn_and_category("win_rate_adjusted", "win %", sums["points"], valid, draw, questions)
    metrics += _details(sums, draw)
    facts, warnings = {}, []
    for i, model in enumerate(models):
        problems = _problems(model, split, sums["total"][i])
        sentences = [sentence.format(problems[key]) for key, sentence in _PROBLEMS.items() if problems[key]]
        warnings += [f"{model}: {sentence}" for sentence in sentences]
        counted = {key: problems[key] for key in ("rows", "duplicates", "errors")}
        facts[model] = counted | {"messy": bool(sentences), "show_result": 100 * fastchat_win_rate(rows, model)}
    protocol = {
        "benchmark": "mt_bench_pairwise",
        "questions": digest(questions.order),
        "referenced": list(REFERENCED),
        "baseline": opponent or "all other models",
    }
    counts = [Count(int(v.sum()), int(total.sum())) for v, total in zip(valid, sums["total"], strict=True)]
    return ScoreReport("MT-Bench pairwise", judge, protocol, models, counts, metrics, facts, warnings)


def _players(rows: Sequence[Row]) -> set[str]:
    return {str(row[side]) for row in rows for side in ("model_1", "model_2")}


def _common_baseline(rows: Sequence[Row]) -> str | None:
    """The model that stands in every row (of two such, the one that is always ``model_2``); None if there is none."""
    everywhere = set.intersection(*({str(r["model_1"]), str(r["model_2"])} for r in rows))
    second = {str(r["model_2"]) for r in rows}
    common = everywhere if len(everywhere) == 1 else everywhere & second if len(second) == 1 else set()
    return next(iter(common), None)


def _split(rows: Sequence[Row]) -> FirstAndRepeats:
    first: dict[tuple[object, ...], Row] = {}
    repeats = []
    for row in rows:
        key = (*sorted((str(row["model_1"]), str(row["model_2"]))), int(row["question_id"]), int(row["turn"]))
        if key in first:
            repeats.append(row)
        else:
            first[key] = row
    return FirstAndRepeats(list(first.values()), repeats)


def _games(row: Row) -> tuple[float | None, float | None]:
    """Points of ``model_1`` in both games; None where the judge gave no verdict (``error``)."""
    return _MODEL_1_POINTS.get(str(row["g1_winner"])), _MODEL_1_POINTS.get(str(row["g2_winner"]))


def _sums(rows: Sequence[Row], models: Sequence[str], order: Sequence[int]) -> dict[str, Array]:
    """Sums over opponents, each (models, questions, 2 turns): rows (``total``, ``valid``), hundredths of points
    (``points``, ``win``, ``tie``, ``loss``, ``agree``), games with a verdict and the first slot's points in them
    (``slot``)."""
    model_places, question_places = ({name: i for i, name in enumerate(names)} for names in (models, order))
    names = ("total", "valid", "points", "win", "tie", "loss", "agree", "games", "slot")
    sums = {name: np.zeros((len(models), len(order), 2)) for name in names}
    for row in rows:
        question, turn = int(row["question_id"]), int(row["turn"])
        if question not in question_places or turn not in (1, 2):
            continue
        for side in (1, 2):
            model = str(row[f"model_{side}"])
            if model in model_places:
                at = model_places[model], question_places[question], turn - 1
                for name, value in _contributions(row, side).items():
                    sums[name][at] += value
    return sums


def _contributions(row: Row, side: int) -> dict[str, float]:
    """What a row adds to the sums of its ``model_<side>``."""
    first, second = _games(row)
    first_slot = [v for v in (first, None if second is None else 1 - second) if v is not None]
    values = {"total": 1.0, "games": len(first_slot), "slot": 100 * sum(first_slot)}
    outcome = pair_points(first, second)
    if outcome is not None:
        points = outcome if side == 1 else 1 - outcome
        values |= {"valid": 1, "points": 100 * points, "agree": 100 * (first == second)}
        values |= {"win": 100 * (points == 1), "tie": 100 * (points == 0.5), "loss": 100 * (points == 0)}
    return values


def _details(sums: dict[str, Array], draw: Array) -> list[ScoredMetric]:
    """Shares of wins, ties, losses and pairs of games that agree; and of games that the first slot won."""
    shares = [
        mean_metric(name, "%", sums[name], sums["valid"], draw, detail=True) for name in ("win", "tie", "loss", "agree")
    ]
    return [*shares, mean_metric("first_slot", "%", sums["slot"], sums["games"], draw, detail=True)]


def _problems(model: str, split: FirstAndRepeats, total: Array) -> dict[str, int]:
    """What keeps a model's rows from being one clean run, counted, and its ``rows``. ``total``: rows by expected
    question and turn, shape (questions, 2)."""
    first, repeats = ([r for r in rows if model in (r["model_1"], r["model_2"])] for rows in split)
    return {
        "rows": len(first) + len(repeats),
        "duplicates": len(repeats),
        "errors": sum(pair_points(*_games(r)) is None for r in first),
        "contradictions": sum(_contradicts(r) for r in first),
        "missing": int((total == 0).sum()),
        "unexpected": len(first) - int(total.sum()),
    }


def _contradicts(row: Row) -> bool:
    """Whether a judgment's text has another verdict than the one stored beside it."""
    models_by_slot = ({"A": "model_1", "B": "model_2"}, {"A": "model_2", "B": "model_1"})
    for game, models in zip(("g1", "g2"), models_by_slot, strict=True):
        text = row.get(f"{game}_judgment")
        winner = read_winner(text) if isinstance(text, str) else None
        if winner is not None and models.get(winner, "tie") != row[f"{game}_winner"]:
            return True
    return False
