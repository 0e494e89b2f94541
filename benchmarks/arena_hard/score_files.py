"""``sail-bench score arena_hard``: Arena-Hard from the official tool's own judgment files, v0.1 and v2.0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arena_hard.frozen_style import StyleRecord, style_of_record, style_record
from benchmarks.arena_hard.judgments import JudgedPrompt, pool_of_games, read_judgments
from benchmarks.arena_hard.model_answers import AnswerKey, StyleFeatures, read_style_features
from benchmarks.shared.score_report import Count, ScoredMetric, ScoreReport, is_enough, joint_draw
from harness.score.bradley_terry import Pool, Version, fit_style, win_rates, win_rates_with_style
from harness.score.columns import Array
from harness.store.json_files import digest


class ArenaScores(NamedTuple):
    """The scores, and the pool's style to freeze; None where it could not be controlled for."""

    report: ScoreReport
    style: StyleRecord | None


class _Controlled(NamedTuple):
    """Style-controlled scores (M,), their replicates (M, R), and the style."""

    values: Array
    samples: Array
    style: StyleRecord


def score_judgment_files(
    judgments_path: Path,
    answers_path: Path | None = None,
    version: Version = "v0.1",
    frozen: Mapping[str, Any] | None = None,
    category: str | None = None,
) -> ArenaScores:
    """Score official judgment files, with style control where all answers are there (arXiv 2406.11939; spec/evals 2).

    Args:
        judgments_path: a file, or a folder of files.
        answers_path: answers of all models and of the baseline, likewise.
        version: of Arena-Hard.
        frozen: style of another pool, as this function gives it back; without it, the style is estimated from these
            models, and again inside every resample.
        category: of v2.0's prompts (None: :func:`benchmarks.arena_hard.judgments.rows_of_category`).

    Raises:
        UserError: a file that is missing or broken, or mixed judges.
    """
    prompts, category, warnings = read_judgments(judgments_path, version, category)
    features = read_style_features(answers_path) if answers_path else {}
    order = sorted({p.question for p in prompts})
    pool = pool_of_games(prompts, features, order)
    draw = joint_draw(len(order))
    metrics = [ScoredMetric("win_rate", "win %", win_rates(pool, pool.one())[0], win_rates(pool, draw).T, len(order))]
    style: StyleRecord | None = None
    obstacle = _no_style_control(pool, prompts, features if answers_path else None)
    if obstacle:
        warnings.append(f"no style-controlled score: {obstacle}")
    else:
        values, samples, style = _style_controlled(pool, draw, version, frozen)
        samples[np.isnan(metrics[0].samples)] = np.nan  # no game of the model in that resample
        metrics.insert(0, ScoredMetric("style_controlled", "win %", values, samples, len(order)))
    played = np.bincount(pool.model, minlength=len(pool.models))
    too_few = ~is_enough(played, len(order))
    for metric in metrics:
        metric.values[too_few], metric.samples[too_few], metric.valued = np.nan, np.nan, played
    counts = _counts(prompts, pool.models)
    warnings += [
        f"{model}: {count.total // 2} of {len(order)} questions were judged"
        for model, count in zip(pool.models, counts, strict=True)
        if count.total < 2 * len(order)
    ]
    protocol = {
        "benchmark": f"arena_hard_{version}",
        "baseline": prompts[0].baseline,
        **({"category": category} if category else {}),
        "questions": digest(order),
        "pool": None if style is None else {k: style[k] for k in ("models", "hash")},
    }
    judge = prompts[0].judge or "not named in the file"
    report = ScoreReport(
        f"Arena-Hard {version}", judge, protocol, list(pool.models), counts, metrics, warnings=warnings
    )
    return ArenaScores(report, style)


def _no_style_control(pool: Pool, prompts: Sequence[JudgedPrompt], features: StyleFeatures | None) -> str:
    """Why style cannot be controlled for; empty if it can. ``features``: None if no answers were named."""
    if features is None:
        return "the answers were not named (--answers)"
    if not len(pool.model):
        return "no game has a valid verdict"
    absent = {AnswerKey(model, p.question) for p in prompts for model in (p.model, p.baseline)} - set(features)
    if absent:
        first = min(absent)
        return f"{len(absent)} answers are absent, as {first.model}'s to {first.question}"
    return ""


def _style_controlled(pool: Pool, draw: Array, version: Version, frozen: Mapping[str, Any] | None) -> _Controlled:
    """Under a frozen style, else under the pool's own, fitted again in each resample (spec/evals 2.2)."""
    if frozen is not None:
        style = style_of_record(frozen, version)
        values, samples = (win_rates_with_style(pool, weights, style, version) for weights in (pool.one(), draw))
        return _Controlled(values[0], samples.T, dict(frozen))
    fit, refits = (fit_style(pool, weights, version) for weights in (pool.one(), draw))
    return _Controlled(fit.scores[0], refits.scores.T, style_record(pool, fit, version))


def _counts(prompts: Sequence[JudgedPrompt], models: Sequence[str]) -> list[Count]:
    """Games with a verdict, of two a judged prompt."""
    valid, total = Counter[str](), Counter[str]()
    for p in prompts:
        valid[p.model] += p.totals.valid
        total[p.model] += 2
    return [Count(valid[model], total[model]) for model in models]
