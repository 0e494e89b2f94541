"""``sail-bench score alpaca_eval``: AlpacaEval 2 from the official tool's own annotation files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.alpaca_eval.annotation_files import AnnotationFile, read_annotation_files
from benchmarks.alpaca_eval.annotations import ModelAnnotations, ModelOutputs, align_annotations
from benchmarks.alpaca_eval.evaluation_set import EvaluationSet, read_evaluation_set
from benchmarks.alpaca_eval.verdict import win_rate
from benchmarks.shared.judgment_files import refuse_mixture
from benchmarks.shared.score_report import Count, Estimate, ScoredMetric, ScoreReport, is_enough, joint_draw
from harness.errors import UserError
from harness.score.columns import Array
from harness.score.length_control import fit_length_control, length_controlled_rate, official_fit

FitMethod = Literal["exact", "official"]

DIFFERS = 5e-3
"""Win rates (percent) that differ by less print alike."""


class _Fit(NamedTuple):
    """How the length-controlled win rate is fitted. ``c``: of the official fit; None for cross-validation.
    ``row_numbers``: the published misalignment after a missing row."""

    method: FitMethod
    c: float | None
    row_numbers: bool


class _Controlled(NamedTuple):
    """A length-controlled win rate, and the C of its official fit, if there was one."""

    estimate: Estimate
    c: float | None = None


class _Metrics(NamedTuple):
    """The metrics, and the C of each model's official fit."""

    metrics: list[ScoredMetric]
    c: dict[str, float]


def score_annotation_files(
    paths: Sequence[Path],
    eval_set: Path | None = None,
    data_dir: Path | None = None,
    outputs: Path | None = None,
    fit_method: FitMethod = "exact",
    row_numbers: bool = False,
    c: float | None = None,
) -> ScoreReport:
    """Length-controlled and raw win rate of all models in some annotation files (arXiv 2404.04475).

    Args:
        paths: annotation files, or folders of them.
        eval_set: the evaluation set, in order.
        data_dir: folder to read the evaluation set, difficulty and anchors from.
        outputs: the model's outputs, to take lengths from if the annotations hold no texts.
        fit_method: ``exact`` maximum likelihood, or the ``official`` L1 fit (needs scikit-learn).
        row_numbers: reproduce the published misalignment: take the row's number for the item's index.
        c: inverse penalty of the official fit; chosen by cross-validation if it is None.

    Raises:
        UserError: a file that is missing, broken or empty, mixed judges or baselines, or a model in two files.
    """
    fit = _checked_fit(fit_method, c, row_numbers)
    evaluation_set = read_evaluation_set(eval_set, data_dir)
    files = read_annotation_files(paths)
    judges = {row.annotator for file in files for _, row in file.rows if row.annotator}
    models = _aligned_models(files, evaluation_set, ModelOutputs(outputs) if outputs else None)
    refuse_mixture("The files mix", "judges", judges)
    refuse_mixture("The files mix", "baselines", (a.baseline for a in models))
    total = len(evaluation_set.instructions)
    metrics, chosen_c = _metrics(models, evaluation_set, fit)
    return ScoreReport(
        "AlpacaEval 2",
        next(iter(judges), "not named in the file"),
        {
            "benchmark": "alpaca_eval_2",
            "set": evaluation_set.sha256,
            "official_set": evaluation_set.official,
            "fit": fit_method,
            **({"c": c or "by cross-validation"} if fit_method == "official" else {}),
            "interval": "exact fit in each resample",
            "verdict": "stored preference in [1, 2] or 0; log-probabilities where it is null",
            "row_numbers": row_numbers,
            "baseline": models[0].baseline,
        },
        [a.model for a in models],
        [Count(len(a.y), total) for a in models],
        metrics,
        {a.model: _facts(a, total) | {"c": chosen_c.get(a.model)} for a in models},
        _warnings(models, evaluation_set, fit, metrics),
        {"official_win_rate": "alpaca_eval's\nwin_rate"} | ({"c": "C of\nthe fit"} if chosen_c else {}),
        caption="; ".join(
            [
                f"{'official set' if evaluation_set.official else 'another set'} of {total} instructions",
                "difficulty by row number (--row-numbers)" if row_numbers else "aligned by instruction",
                *(["length control by the " + fit_method + " fit"] if len(metrics) > 1 else []),
            ]
        ),
    )


def _checked_fit(method: FitMethod, c: float | None, row_numbers: bool) -> _Fit:
    if c is not None and method != "official":
        raise UserError("--c is of --fit official: name both, or leave it out")
    if c is not None and not (math.isfinite(c) and c > 0):
        raise UserError(f"--c is the inverse of a penalty, and {c:g} is none: give a number above 0")
    if method == "official" and find_spec("sklearn") is None:
        raise UserError("--fit official needs scikit-learn: python -m pip install scikit-learn")
    return _Fit(method, c, row_numbers)


def _aligned_models(
    files: Sequence[AnnotationFile], evaluation_set: EvaluationSet, outputs: ModelOutputs | None
) -> list[ModelAnnotations]:
    """All models of the files, each of one file."""
    source: dict[str, Path] = {}
    models: list[ModelAnnotations] = []
    for file in files:
        for a in align_annotations(file, evaluation_set, outputs):
            if a.model in source:
                raise UserError(f"{source[a.model]} and {file.path} hold the same model, {a.model}: leave one out")
            source[a.model] = file.path
            models.append(a)
    return models


def _metrics(models: Sequence[ModelAnnotations], evaluation_set: EvaluationSet, fit: _Fit) -> _Metrics:
    """The length-controlled win rate, where difficulty and anchors are at hand, and the raw one."""
    total = len(evaluation_set.instructions)
    draw = joint_draw(total)
    valid = [len(a.y) for a in models]
    raw = [_raw_win_rate(a, draw) for a in models]
    metrics = [ScoredMetric.stacked("win_rate", "win %", raw, total, valid)]
    if evaluation_set.difficulty is None:
        return _Metrics(metrics, {})
    places = [np.arange(len(a.y)) if fit.row_numbers else a.index for a in models]
    controlled = [
        _controlled_win_rate(a, evaluation_set.difficulty[place], evaluation_set, draw, fit)
        for a, place in zip(models, places, strict=True)
    ]
    estimates = [estimate for estimate, _ in controlled]
    metrics.insert(0, ScoredMetric.stacked("length_controlled", "win %", estimates, total, valid))
    chosen_c = {a.model: c for a, (_, c) in zip(models, controlled, strict=True) if c is not None}
    return _Metrics(metrics, chosen_c)


def _warnings(
    models: Sequence[ModelAnnotations],
    evaluation_set: EvaluationSet,
    fit: _Fit,
    metrics: Sequence[ScoredMetric],
) -> list[str]:
    """What was dropped, why a score is missing, and scores that length control moves far."""
    warnings = [problem for a in models for problem in a.problems]
    for a, raw in zip(models, metrics[-1].values, strict=True):
        if abs(a.official.win_rate - raw) > DIFFERS:
            rows = f"the {a.official.n} rows that it keeps"
            warnings.append(f"{a.model}: alpaca_eval's own win rate is {a.official.win_rate:.2f}, over {rows}")
    if evaluation_set.difficulty is None:
        warnings.append(
            "no length-controlled win rate: instruction_difficulty.csv and df_gamed.csv are neither in --data-dir nor "
            "beside --eval-set"
        )
        return warnings
    for a in models:
        if a.missing_lengths:
            warnings.append(f"{a.model}: no length-controlled win rate, as {a.missing_lengths}")
    if fit.method == "official":
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
        "avg_length": int(a.length.mean()) if np.isfinite(a.length).all() and len(a.y) else None,
        "official_win_rate": a.official.win_rate,
        "official_n_total": a.official.n,
        "unlike_logprobs": a.unlike_logprobs,
        "invalid": a.invalid,
    }


def _raw_win_rate(a: ModelAnnotations, draw: Array) -> Estimate:
    if not is_enough(len(a.y), draw.shape[1]):
        return Estimate.missing(len(draw))
    weights = draw[:, a.index]
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a verdict
        return Estimate(100 * np.array([a.y.mean()]), 100 * (weights @ a.y) / weights.sum(1))


def _controlled_win_rate(
    a: ModelAnnotations, difficulty: Array, evaluation_set: EvaluationSet, draw: Array, fit: _Fit
) -> _Controlled:
    """Length-controlled win rate of a model, with ``difficulty`` (n,) of its rows."""
    if a.missing_lengths or not is_enough(len(a.y), draw.shape[1]):
        return _Controlled(Estimate.missing(len(draw)))
    if a.model == a.baseline:  # by definition
        return _Controlled(Estimate(np.array([50.0]), np.full(len(draw), 50.0)))
    anchors, c = evaluation_set.anchors, None
    delta, one, weights = a.baseline_length - a.length, np.ones((1, len(a.y))), draw[:, a.index]
    if fit.method == "exact":
        coefficients = fit_length_control(a.y, delta, difficulty, one, anchors)
    else:
        official = official_fit(a.y, delta, difficulty, anchors, fit.c)
        coefficients, c = official.coefficients[None], official.c
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a verdict
        refits = fit_length_control(a.y, delta, difficulty, weights, anchors)
        samples = length_controlled_rate(refits, difficulty, weights)
    return _Controlled(Estimate(length_controlled_rate(coefficients, difficulty, one), samples), c)
