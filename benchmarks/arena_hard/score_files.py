"""``sail-bench score arena_hard``: Arena-Hard from the official tool's own judgment files, v0.1 and v2.0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arena_hard.battles import holds_battles, read_battles
from benchmarks.arena_hard.frozen_style import StyleRecord, style_of_record, style_record
from benchmarks.arena_hard.judgments import BY_OPTION, NOT_NAMED, JudgedPrompt, Judgments, read_judgments
from benchmarks.arena_hard.model_answers import AnswerKey, StyleFeatures, read_answers, style_features
from benchmarks.arena_hard.question_set import set_label
from benchmarks.shared.score_report import Count, ScoredMetric, ScoreReport, is_enough, joint_draw
from harness.errors import UserError
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
    baseline: str | None = None,
) -> ArenaScores:
    """Score official judgment files, with style control where all answers are there (arXiv 2406.11939).

    Args:
        judgments_path: a file, or a folder of files: judgments, or battles (``arena_hard_battles.jsonl``).
        answers_path: answers of all models and of the baseline, likewise.
        version: of Arena-Hard.
        frozen: style of another pool, as this function gives it back; without it, the style is estimated from these
            models, and again inside every resample.
        category: of v2.0's prompts (None: :func:`benchmarks.arena_hard.judgments.rows_of_category`).
        baseline: for rows that name none; None for the official one.

    Raises:
        UserError: a file that is missing or broken, mixed judges, or a baseline that rows or answers contradict.
    """
    if holds_battles(judgments_path):
        judgments = read_battles(judgments_path, version, baseline)
    else:
        judgments = read_judgments(judgments_path, version, category, baseline)
    prompts, warnings = judgments.prompts, judgments.notices
    features = _features(answers_path, judgments) if answers_path else {}
    order = sorted({p.question for p in prompts})
    pool = pool_of_games(prompts, features, order)
    obstacle = _no_style_control(pool, judgments, features if answers_path else None)
    if obstacle:
        warnings.append(f"no style-controlled score: {obstacle}")
    metrics, style = _metrics(pool, len(order), None if obstacle else version, frozen)
    judged = Counter(p.model for p in prompts)
    warnings += [
        f"{model}: {judged[model]} of {len(order)} questions were judged"
        for model in pool.models
        if judged[model] < len(order)
    ]
    label, opponent = set_label(order, version, judgments.category), judgments.baseline
    protocol = _protocol(judgments, version, order, style)
    report = ScoreReport(
        f"Arena-Hard {version}",
        prompts[0].judge or NOT_NAMED,
        protocol,
        list(pool.models),
        _counts(prompts, pool.models),
        metrics,
        judgments.facts,
        warnings,
        {"official": "official\nwin %", **({"differ": "rows that\ndiffer"} if _has_labels(judgments) else {})},
        f"against {opponent.name} ({opponent.source}); {label}",
    )
    return ArenaScores(report, style)


def _metrics(
    pool: Pool, questions: int, version: Version | None, frozen: Mapping[str, Any] | None
) -> tuple[list[ScoredMetric], StyleRecord | None]:
    """Win rates with one joint draw of resamples; style-controlled too if a ``version`` says how."""
    draw, style = joint_draw(questions), None
    raw = ScoredMetric("win_rate", "win %", win_rates(pool, pool.one())[0], win_rates(pool, draw).T, questions)
    metrics = [raw]
    if version is not None:
        values, samples, style = _style_controlled(pool, draw, version, frozen)
        samples[np.isnan(raw.samples)] = np.nan  # no game of the model in that resample
        metrics.insert(0, ScoredMetric("style_controlled", "win %", values, samples, questions))
    played = np.bincount(pool.model, minlength=len(pool.models))
    too_few = ~is_enough(played, questions)
    for metric in metrics:
        metric.values[too_few], metric.samples[too_few], metric.valued = np.nan, np.nan, played
    return metrics, style


def _protocol(
    judgments: Judgments, version: Version, questions: Sequence[str], style: StyleRecord | None
) -> dict[str, Any]:
    """Everything that can change the score but the models, as JSON."""
    category = judgments.category
    return {
        "benchmark": f"arena_hard_{version}",
        "baseline": judgments.baseline.name,
        "baseline_source": judgments.baseline.source,
        **({"category": category} if category else {}),
        "questions": digest(questions),
        "set": set_label(questions, version, category),
        "verdicts": judgments.verdicts,
        "pool": None if style is None else {k: style[k] for k in ("models", "hash")},
    }


def _has_labels(judgments: Judgments) -> bool:
    return any("differ" in facts for facts in judgments.facts.values())


def _features(answers_path: Path, judgments: Judgments) -> StyleFeatures:
    """Style of the answers of all models and of the baseline.

    Raises:
        UserError: the answers hold none of the baseline that the user named.
    """
    baseline = judgments.baseline
    models = dict.fromkeys([*(p.model for p in judgments.prompts), baseline.name])
    answers = read_answers(answers_path, models)
    if baseline.source == BY_OPTION and baseline.name not in {key.model for key in answers}:
        raise UserError(f"{answers_path} holds no answers of --baseline {baseline.name}: name a model that is there")
    return style_features(answers)


def pool_of_games(prompts: Sequence[JudgedPrompt], style: StyleFeatures, order: Sequence[str]) -> Pool:
    """The valid games as a pool.

    Args:
        prompts: of all models.
        style: of the answers; those that are not there count as zeros.
        order: the question ids that are resampled.
    """
    models = sorted({p.model for p in prompts})
    question_places = {question: i for i, question in enumerate(order)}
    model_places = {model: i for i, model in enumerate(models)}
    played = [p for p in prompts if p.totals.weight > 0]
    no_style = [0.0] * 4
    return Pool(
        models,
        len(order),
        np.array([model_places[p.model] for p in played], dtype=np.int64),
        np.array([question_places[p.question] for p in played], dtype=np.int64),
        np.array([p.totals.wins for p in played], float),
        np.array([p.totals.weight for p in played], float),
        np.array([style.get(AnswerKey(p.model, p.question), no_style) for p in played], float).reshape(-1, 4),
        np.array([style.get(AnswerKey(p.baseline, p.question), no_style) for p in played], float).reshape(-1, 4),
    )


def _no_style_control(pool: Pool, judgments: Judgments, features: StyleFeatures | None) -> str:
    """Why style cannot be controlled for; empty if it can. ``features``: None if no answers were named."""
    if features is None:
        return "the answers were not named (--answers)"
    if not len(pool.model):
        return "no game has a valid verdict"
    baseline = judgments.baseline
    if baseline.name not in {key.model for key in features}:
        return f"the answers hold none of {baseline.name}, the baseline ({baseline.source}): --baseline names another"
    absent = {AnswerKey(m, p.question) for p in judgments.prompts for m in (p.model, p.baseline)} - set(features)
    if absent:
        first = min(absent)
        return f"{len(absent)} answers are absent, as {first.model}'s to {first.question}"
    return ""


def _style_controlled(pool: Pool, draw: Array, version: Version, frozen: Mapping[str, Any] | None) -> _Controlled:
    """Under a frozen style, else under the pool's own, fitted again in each resample."""
    if frozen is not None:
        style = style_of_record(frozen, version)
        values, samples = (win_rates_with_style(pool, weights, style, version) for weights in (pool.one(), draw))
        return _Controlled(values[0], samples.T, dict(frozen))
    fit, refits = (fit_style(pool, weights, version) for weights in (pool.one(), draw))
    return _Controlled(fit.scores[0], refits.scores.T, style_record(pool, fit, version))


def _counts(prompts: Sequence[JudgedPrompt], models: Sequence[str]) -> list[Count]:
    """Games with a verdict, of those that a judged prompt has."""
    valid, total = Counter[str](), Counter[str]()
    for p in prompts:
        valid[p.model] += p.totals.valid
        total[p.model] += p.games
    return [Count(valid[model], total[model]) for model in models]
