"""MT-Bench from FastChat's own judgment file (``gpt-4_single.jsonl``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mt_bench.grading import REFERENCED, collect, official_mean, rating
from benchmarks.scored import Metric, Scored, joint_draw
from harness import files
from harness.errors import UserError
from harness.stats.bootstrap import interval
from harness.store import digest


def score(judged: Path, questions: Path | None = None) -> Scored:
    """Mean rating by model, by turn and (with ``questions``) by category; questions are resampled, both turns together.

    Ratings are read from the judgment texts again. Rows that repeat a question and turn are counted and told; the first
    one stands, so that no average hides two runs.

    Raises:
        UserError: a file that is missing or broken, or mixed judges.
    """
    rows = files.rows(judged, ["question_id", "model", "turn", "score"])
    judges = sorted(
        {str(r["judge"][0] if isinstance(r.get("judge"), list) else r.get("judge", "not named")) for r in rows}
    )
    if len(judges) > 1:
        raise UserError(f"{judged} mixes judges ({', '.join(judges)}): score each by itself")
    warnings = []
    differ = sum(isinstance(r.get("judgment"), str) and (rating(r["judgment"]) or -1) != r["score"] for r in rows)
    if differ:
        warnings.append(f"{differ} stored scores are not what their judgment text says; the stored ones count")
    asked = files.rows(questions, ["question_id", "category"]) if questions else []
    category = {int(q["question_id"]): str(q["category"]) for q in asked}
    order = sorted(category or {int(r["question_id"]) for r in rows})
    found = collect(rows, order)
    models = sorted(found)
    draw = joint_draw(len(order))
    grid = np.array(
        [[[_value(found[m].scores.get((q, t))) for t in (1, 2)] for q in order] for m in models]
    )  # (M, questions, 2)
    metrics = [_mean("rating", grid, draw), _mean("turn_1", grid[..., :1], draw), _mean("turn_2", grid[..., 1:], draw)]
    for name in dict.fromkeys(category[q] for q in order) if category else ():
        inside = np.array([category[q] == name for q in order])
        metrics.append(_mean(name, np.where(inside[:, None], grid, np.nan), draw, detail=True))
    facts = {}
    for i, m in enumerate(models):
        told = found[m].messy
        warnings += [f"{m}: {what}" for what in told]
        facts[m] = {
            "rows": found[m].rows,
            "duplicates": found[m].duplicates,
            "unparsed": found[m].unparsed,
            "messy": bool(told),
            "show_result": official_mean(rows, m),
            "standard_error": interval(0.0, metrics[0].samples[i], len(order)).error,
        }
    return Scored(
        "MT-Bench",
        judges[0],
        {"benchmark": "mt_bench", "questions": digest(order), "referenced": list(REFERENCED)},
        models,
        [(int(np.isfinite(g).sum()), g.size) for g in grid],
        metrics,
        facts,
        warnings,
    )


def _value(rating: float | None) -> float:
    return float("nan") if rating is None else rating


def _mean(name: str, grid: Any, draw: Any, detail: bool = False) -> Metric:
    """Mean over valid ratings of (M, questions, turns): turns are pooled, as the official mean does."""
    valid = np.isfinite(grid)
    sums, counts = np.where(valid, grid, 0).sum(2), valid.sum(2).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, samples = sums.sum(1) / counts.sum(1), (draw @ sums.T / (draw @ counts.T)).T
    return Metric(name, "rating 1-10", value, samples, int(valid.any((0, 2)).sum()), detail)
