"""MT-Bench from FastChat's own file of single-answer ratings, ``gpt-4_single.jsonl`` (pairs: :mod:`.pair_files`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mt_bench.verdict_single import REFERENCED, collect, official_mean, rating
from benchmarks.shared.score_report import Metric, Scored, enough, joint_draw, some_rows
from harness.errors import UserError
from harness.store.json_files import digest


def score(judged: Path, questions: Path | None = None) -> Scored:
    """Mean rating by model, by turn and (with ``questions``) by category; questions are resampled, both turns together.

    Ratings are read from the judgment texts again. Rows that repeat a question and turn are counted and told; the first
    one stands, so that no average hides two runs. Ratings outside 1-10 are told and averaged, as the official mean has
    them (spec/evals 3: no range check).

    Raises:
        UserError: a file that is missing or broken, or mixed judges.
    """
    rows = some_rows(judged, ["question_id", "model", "turn", "score"])
    judge = one_judge(rows, judged)
    warnings = []
    differ = sum(isinstance(r.get("judgment"), str) and _said(r["judgment"]) != r["score"] for r in rows)
    if differ:
        warnings.append(f"{differ} stored scores are not what their judgment text says; the stored ones count")
    category, order = asked(rows, questions)
    found = collect(rows, order)
    models, known = sorted(found), set(order)
    draw = joint_draw(len(order))
    grid = np.array(
        [[[_value(found[m].scores.get((q, t))) for t in (1, 2)] for q in order] for m in models]
    )  # (M, questions, 2)
    valid = np.isfinite(grid)
    metrics = by_turn_and_category("rating", "rating 1-10", np.where(valid, grid, 0), valid, draw, category, order)
    facts = {}
    for i, m in enumerate(models):
        told = found[m].messy
        if found[m].out_of_range:
            told.append("the ratings outside 1-10 are averaged as they are, as in the official mean")
        if strange := sum(q not in known or t not in (1, 2) for q, t in found[m].scores):
            told.append(f"{strange} rows are of no expected question and turn: they do not count")
        warnings += [f"{m}: {what}" for what in told]
        facts[m] = {
            "rows": found[m].rows,
            "duplicates": found[m].duplicates,
            "unparsed": found[m].unparsed,
            "messy": bool(told),
            "show_result": official_mean(rows, m),
            "standard_error": metrics[0].interval(i).error,
        }
    return Scored(
        "MT-Bench",
        judge,
        {"benchmark": "mt_bench", "questions": digest(order), "referenced": list(REFERENCED)},
        models,
        [(int(np.isfinite(g).sum()), g.size) for g in grid],
        metrics,
        facts,
        warnings,
    )


def _value(rating: float | None) -> float:
    return float("nan") if rating is None else rating


def _said(judgment: str) -> float:
    """A judgment's rating as FastChat stores it: -1 where there is none."""
    found = rating(judgment)
    return -1.0 if found is None else found


def one_judge(rows: list[dict[str, Any]], source: Path) -> str:
    """Name of the judge of all rows.

    Raises:
        UserError: there are several.
    """
    found = {str(r["judge"][0] if isinstance(r.get("judge"), list) else r.get("judge", "not named")) for r in rows}
    if len(found) > 1:
        raise UserError(f"{source} mixes judges ({', '.join(sorted(found))}): score each by itself")
    return found.pop() if found else "not named"


def asked(rows: list[dict[str, Any]], questions: Path | None) -> tuple[dict[int, str], list[int]]:
    """Categories by question id (empty without ``questions``), and the ids in order."""
    found = some_rows(questions, ["question_id", "category"]) if questions else []
    category = {int(q["question_id"]): str(q["category"]) for q in found}
    return category, sorted(category or {int(r["question_id"]) for r in rows})


def by_turn_and_category(
    name: str, unit: str, sums: Any, counts: Any, draw: Any, category: dict[int, str], order: list[int]
) -> list[Metric]:
    """Means of (M, questions, 2 turns) sums over counts: both turns pooled, each turn, and by category."""
    counts = counts.astype(float)
    found = [mean(name, unit, sums, counts, draw)]
    found += [mean(f"turn_{t + 1}", unit, sums[..., t : t + 1], counts[..., t : t + 1], draw) for t in (0, 1)]
    for kind in dict.fromkeys(category[q] for q in order) if category else ():
        inside = np.array([category[q] == kind for q in order])
        found.append(mean(kind, unit, sums[:, inside], counts[:, inside], draw[:, inside], detail=True))
    return found


def mean(name: str, unit: str, sums: Any, counts: Any, draw: Any, detail: bool = False) -> Metric:
    """Mean of (M, questions, turns) sums over counts; questions are resampled, turns pooled as the official mean is.
    NaN for a model with a value for fewer than two of several questions."""
    sums, counts = sums.sum(2), counts.sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, samples = sums.sum(1) / counts.sum(1), (draw @ sums.T / (draw @ counts.T)).T
    valued = (counts > 0).sum(1)
    few = ~enough(valued, counts.shape[1])
    value[few], samples[few] = np.nan, np.nan
    return Metric(name, unit, value, samples, int((counts > 0).any(0).sum()), detail, valued)
