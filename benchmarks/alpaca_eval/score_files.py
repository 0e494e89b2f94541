"""``sail-bench score alpaca_eval``: AlpacaEval 2 from the official tool's own annotation files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.alpaca_eval.annotations import ModelAnnotations, add_missing_outputs, align_annotations
from benchmarks.alpaca_eval.evaluation_set import EvaluationSet, read_evaluation_set
from benchmarks.alpaca_eval.verdict import win_rate
from benchmarks.shared.judgment_files import nonempty_rows, refuse_mixture
from benchmarks.shared.score_report import Count, Estimate, ScoredMetric, ScoreReport, is_enough, joint_draw
from harness.errors import UserError
from harness.score.columns import Array
from harness.score.length_control import fit_length_control, length_controlled_rate, official_fit

FitMethod = Literal["exact", "official"]


def score_annotation_files(
    paths: Sequence[Path],
    eval_set: Path | None = None,
    data_dir: Path | None = None,
    outputs: Path | None = None,
    fit_method: FitMethod = "exact",
    row_numbers: bool = False,
) -> ScoreReport:
    """Length-controlled and raw win rate of all models in some annotation files (arXiv 2404.04475; spec/evals 1).

    Args:
        paths: annotation files.
        eval_set: the evaluation set, in order.
        data_dir: folder to read the evaluation set, difficulty and anchors from.
        outputs: the model's outputs, to take lengths from if the annotations hold no texts.
        fit_method: ``exact`` maximum likelihood, or the ``official`` L1 fit with C by cross-validation (needs
            scikit-learn).
        row_numbers: reproduce the published misalignment: take the row's number for the item's index (spec/evals 1.4).

    Raises:
        UserError: a file that is missing, broken or empty, or mixed judges or baselines.
    """
    if fit_method == "official" and find_spec("sklearn") is None:
        raise UserError("--fit official needs scikit-learn: python -m pip install scikit-learn")
    evaluation_set = read_evaluation_set(eval_set, data_dir)
    models: list[ModelAnnotations] = []
    judges: set[str] = set()
    for path in paths:
        rows = nonempty_rows(path, ["instruction", "preference"])
        add_missing_outputs(rows, path, outputs)
        judges |= {str(r["annotator"]) for r in rows if r.get("annotator")}
        models += align_annotations(rows, path, evaluation_set)
    refuse_mixture("The files mix", "judges", judges)
    refuse_mixture("The files mix", "baselines", (a.baseline for a in models))
    if len({a.model for a in models}) < len(models):
        raise UserError("Two annotation files hold the same model: leave one out")
    total = len(evaluation_set.instructions)
    metrics = _metrics(models, evaluation_set, fit_method, row_numbers)
    return ScoreReport(
        "AlpacaEval 2",
        next(iter(judges), "not named in the file"),
        {
            "benchmark": "alpaca_eval_2",
            "set": evaluation_set.sha256,
            "fit": fit_method,
            "interval": "exact fit in each resample",
            "row_numbers": row_numbers,
            "baseline": models[0].baseline,
        },
        [a.model for a in models],
        [Count(len(a.y), total) for a in models],
        metrics,
        {a.model: _facts(a, total) for a in models},
        _warnings(models, evaluation_set, fit_method, metrics),
    )


def _metrics(
    models: Sequence[ModelAnnotations], evaluation_set: EvaluationSet, fit_method: FitMethod, row_numbers: bool
) -> list[ScoredMetric]:
    """The length-controlled win rate, where difficulty and anchors are at hand, and the raw one."""
    total = len(evaluation_set.instructions)
    draw = joint_draw(total)
    valid = [len(a.y) for a in models]
    raw = [_raw_win_rate(a, draw) for a in models]
    metrics = [ScoredMetric.stacked("win_rate", "win %", raw, total, valid)]
    if evaluation_set.difficulty is not None:
        places = [np.arange(len(a.y)) if row_numbers else a.index for a in models]
        difficulty = [evaluation_set.difficulty[place] for place in places]
        estimates = [
            _controlled_win_rate(a, gamma, evaluation_set, draw, fit_method)
            for a, gamma in zip(models, difficulty, strict=True)
        ]
        metrics.insert(0, ScoredMetric.stacked("length_controlled", "win %", estimates, total, valid))
    return metrics


def _warnings(
    models: Sequence[ModelAnnotations],
    evaluation_set: EvaluationSet,
    fit_method: FitMethod,
    metrics: Sequence[ScoredMetric],
) -> list[str]:
    """What was dropped, why a score is missing, and scores that length control moves far."""
    warnings = [problem for a in models for problem in a.problems]
    if evaluation_set.difficulty is None:
        warnings.append(
            "no length-controlled win rate: instruction_difficulty.csv and df_gamed.csv are neither in --data-dir nor "
            "beside --eval-set"
        )
        return warnings
    for a in models:
        if a.missing_lengths:
            warnings.append(f"{a.model}: no length-controlled win rate, as {a.missing_lengths}")
    if fit_method == "official":
        warnings.append("--fit official gives the score alone: its interval is of the exact fit in each resample")
    for a, lc, raw in zip(models, metrics[0].values, metrics[1].values, strict=True):
        if lc < min(raw - raw / 4, raw - 10) or lc > max(raw + (100 - raw) / 4, raw + 10):
            warnings.append(
                f"{a.model}: length control moves the win rate from {raw:.1f} to {lc:.1f}; look at the answers"
            )
    return warnings


def _facts(a: ModelAnnotations, total: int) -> dict[str, Any]:
    """Further figures of a model under alpaca_eval's own names."""
    raw = win_rate([float(v) + 1 for v in a.y]).as_json()
    if not is_enough(len(a.y), total):
        raw["discrete_win_rate"] = float("nan")
    return {k: raw[k] for k in ("standard_error", "n_wins", "n_wins_base", "n_draws", "discrete_win_rate")} | {
        "avg_length": int(a.length.mean()) if np.isfinite(a.length).all() and len(a.y) else None
    }


def _raw_win_rate(a: ModelAnnotations, draw: Array) -> Estimate:
    if not is_enough(len(a.y), draw.shape[1]):
        return Estimate.missing(len(draw))
    weights = draw[:, a.index]
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a verdict
        return Estimate(100 * np.array([a.y.mean()]), 100 * (weights @ a.y) / weights.sum(1))


def _controlled_win_rate(
    a: ModelAnnotations, difficulty: Array, evaluation_set: EvaluationSet, draw: Array, fit_method: FitMethod
) -> Estimate:
    """Length-controlled win rate of a model, with ``difficulty`` (n,) of its rows."""
    if a.missing_lengths or not is_enough(len(a.y), draw.shape[1]):
        return Estimate.missing(len(draw))
    if a.model == a.baseline:  # by definition
        return Estimate(np.array([50.0]), np.full(len(draw), 50.0))
    anchors = evaluation_set.anchors
    delta, one, weights = a.baseline_length - a.length, np.ones((1, len(a.y))), draw[:, a.index]
    if fit_method == "exact":
        coefficients = fit_length_control(a.y, delta, difficulty, one, anchors)
    else:
        coefficients = official_fit(a.y, delta, difficulty, anchors)[0][None]
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a verdict
        refits = fit_length_control(a.y, delta, difficulty, weights, anchors)
        samples = length_controlled_rate(refits, difficulty, weights)
    return Estimate(length_controlled_rate(coefficients, difficulty, one), samples)
