"""MT-Bench's pairwise mode from FastChat's own judgment file (``gpt-4_pair.jsonl``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.mt_bench.score_single import asked, by_turn_and_category, mean, one_judge
from benchmarks.mt_bench.verdict_pairwise import official_rate, settled, verdict
from benchmarks.mt_bench.verdict_single import REFERENCED
from benchmarks.shared.score_report import Scored, joint_draw, some_rows
from harness.errors import UserError, unknown
from harness.store.json_files import digest

Row = Mapping[str, Any]

Array = NDArray[np.float64]

_KEYS = ["question_id", "model_1", "model_2", "g1_winner", "g2_winner", "turn"]

_WINNERS = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5}


def pairwise(judged: Path) -> bool:
    """Whether a judgment file holds pairwise rows.

    Raises:
        UserError: it holds both kinds or nothing, or cannot be read.
    """
    kinds = {"g1_winner" in row for row in some_rows(judged, ["question_id"])}
    if len(kinds) > 1:
        raise UserError(f"{judged} mixes pairwise and single-answer rows: score each by itself")
    return kinds == {True}


def _baseline(rows: Sequence[Row]) -> str | None:
    """The model that stands in every row (of two such, the one that is always ``model_2``); None if there is none."""
    everywhere = set.intersection(*({str(r["model_1"]), str(r["model_2"])} for r in rows))
    second = {str(r["model_2"]) for r in rows}
    found = everywhere if len(everywhere) == 1 else everywhere & second if len(second) == 1 else set()
    return next(iter(found), None)


def _games(row: Row) -> tuple[float | None, float | None]:
    """Points of ``model_1`` in both games; None where the judge gave no verdict (``error``)."""
    return _WINNERS.get(str(row["g1_winner"])), _WINNERS.get(str(row["g2_winner"]))


def _contradicts(row: Row) -> bool:
    """Whether a judgment's text has another verdict than the one stored beside it."""
    names: tuple[dict[str, str], ...] = ({"A": "model_1", "B": "model_2"}, {"A": "model_2", "B": "model_1"})
    for game, name in zip(("g1", "g2"), names, strict=True):
        text = row.get(f"{game}_judgment")
        found = verdict(text) if isinstance(text, str) else None
        if found is not None and name.get(found, "tie") != row[f"{game}_winner"]:
            return True
    return False


def _split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The first row of each pair of models, question and turn, and the repeats."""
    first: dict[tuple[Any, ...], Row] = {}
    repeats = []
    for row in rows:
        key = (*sorted((str(row["model_1"]), str(row["model_2"]))), int(row["question_id"]), int(row["turn"]))
        if key in first:
            repeats.append(row)
        else:
            first[key] = row
    return list(first.values()), repeats


def _tables(rows: Sequence[Row], models: Sequence[str], order: Sequence[int]) -> dict[str, Array]:
    """Sums over opponents, each (M, questions, 2 turns): rows (``total``, ``valid``), hundredths of points (``points``,
    ``win``, ``tie``, ``loss``, ``agree``), games with a verdict and the first slot's points in them (``slot``)."""
    number, place = {m: i for i, m in enumerate(models)}, {q: i for i, q in enumerate(order)}
    names = ("total", "valid", "points", "win", "tie", "loss", "agree", "games", "slot")
    found = {name: np.zeros((len(models), len(order), 2)) for name in names}
    for row in rows:
        question, turn = int(row["question_id"]), int(row["turn"])
        if question not in place or turn not in (1, 2):
            continue
        first, second = _games(row)
        outcome = settled(first, second)
        shown = [v for v in (first, None if second is None else 1 - second) if v is not None]
        for side in (1, 2):
            if str(row[f"model_{side}"]) not in number:
                continue
            at = number[str(row[f"model_{side}"])], place[question], turn - 1
            told = {"total": 1.0, "games": len(shown), "slot": 100 * sum(shown)}
            if outcome is not None:
                mine = outcome if side == 1 else 1 - outcome
                told |= {"valid": 1, "points": 100 * mine, "agree": 100 * (first == second)}
                told |= {"win": 100 * (mine == 1), "tie": 100 * (mine == 0.5), "loss": 100 * (mine == 0)}
            for name, value in told.items():
                found[name][at] += value
    return found


def score(judged: Path, questions: Path | None = None, baseline: str | None = None) -> Scored:
    """Adjusted win rate (ties half) by model, by turn and (with ``questions``) by category; questions are resampled.

    Against one baseline (``baseline``, or the model that stands in every row), else over all opponents. A row with a
    game without a verdict is not valid; rows that repeat a pair, question and turn are counted, and the first stands.

    Raises:
        UserError: a file that is missing or broken, mixed judges, or a baseline that played no game.
    """
    rows = some_rows(judged, _KEYS)
    known = {str(r[side]) for r in rows for side in ("model_1", "model_2")}
    if baseline is not None and baseline not in known:
        raise unknown("model", baseline, known)
    rows = [r for r in rows if baseline is None or baseline in (r["model_1"], r["model_2"])]
    judge, against = one_judge(rows, judged), baseline or _baseline(rows)
    category, order = asked(rows, questions)
    models = sorted({str(r[side]) for r in rows for side in ("model_1", "model_2")} - {str(against)})
    first, repeats = _split(rows)
    sums, draw = _tables(first, models, order), joint_draw(len(order))
    valid = sums["valid"]
    metrics = by_turn_and_category("win_rate_adjusted", "win %", sums["points"], valid, draw, category, order)
    metrics += [mean(name, "%", sums[name], valid, draw, detail=True) for name in ("win", "tie", "loss", "agree")]
    metrics.append(mean("first_slot", "%", sums["slot"], sums["games"], draw, detail=True))
    facts, warnings = {}, []
    for i, model in enumerate(models):
        odd = _odd(model, first, repeats)
        odd["missing"] = int((sums["total"][i] == 0).sum())
        odd["strange"] = odd["rows"] - odd["duplicates"] - int(sums["total"][i].sum())
        sentences = [sentence.format(odd[key]) for key, sentence in _SENTENCES.items() if odd[key]]
        warnings += [f"{model}: {what}" for what in sentences]
        kept = {key: odd[key] for key in ("rows", "duplicates", "errors")}
        facts[model] = kept | {"messy": bool(sentences), "show_result": 100 * official_rate(rows, model)}
    return Scored(
        "MT-Bench pairwise",
        judge,
        {
            "benchmark": "mt_bench_pairwise",
            "questions": digest(order),
            "referenced": list(REFERENCED),
            "baseline": against or "all other models",
        },
        models,
        [(int(v.sum()), int(t.sum())) for v, t in zip(valid, sums["total"], strict=True)],
        metrics,
        facts,
        warnings,
    )


_SENTENCES = {
    "duplicates": "{} rows repeat a pair, question and turn: the first counts",
    "errors": "{} rows have a game without a verdict (error)",
    "contradictions": "{} rows have a judgment that says another winner; the stored ones count",
    "missing": "{} of the expected questions and turns are missing",
    "strange": "{} rows are of no expected question and turn",
}


def _odd(model: str, first: Sequence[Row], repeats: Sequence[Row]) -> dict[str, int]:
    """What keeps a model's rows from being one clean run, counted."""
    kept, again = ([r for r in rows if model in (r["model_1"], r["model_2"])] for rows in (first, repeats))
    return {
        "rows": len(kept) + len(again),
        "duplicates": len(again),
        "errors": sum(settled(*_games(r)) is None for r in kept),
        "contradictions": sum(_contradicts(r) for r in kept),
    }
