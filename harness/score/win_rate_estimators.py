"""Estimators of win rates: at equal length, at equal style, and over weighted games.

They have the arguments of all estimators (:mod:`harness.score.estimators`). ``length`` and ``baseline_length`` are
characters of an answer and of the baseline's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.score.bradley_terry import STYLE_FEATURES, Pool, Version, fit_style, win_rates_with_offset
from harness.score.columns import Array, PromptColumns, float_column
from harness.score.length_control import Anchors, fit_length_control, length_controlled_rate, weighted_sd
from harness.score.logistic import fit_logistic, fit_scaled


class _ValidRows(NamedTuple):
    """Places of the rows with a value, the values, their weights, and of each resample whether it drew any (one that
    did not has weights of 1, so that a fit exists that is then left out)."""

    places: NDArray[np.intp]
    values: Array
    weights: Array
    drawn: NDArray[np.bool_]


def _valid_rows(columns: PromptColumns, name: str, weights: Array) -> _ValidRows:
    values = float_column(columns, name)
    places = np.flatnonzero(~np.isnan(values))
    inside = weights if len(places) == len(values) else weights[:, places]
    drawn = inside @ np.ones(len(places)) > 0
    return _ValidRows(places, values[places], inside if drawn.all() else np.where(drawn[:, None], inside, 1.0), drawn)


def _squares(values: Array, weights: Array) -> Array:
    """Weighted sum of squares around the weighted mean of each column, (R, k).

    The sum of squares minus that of the mean is a product of matrices, but cancels where a resample hardly varies:
    there the differences are squared.

    Args:
        values: (n, k).
        weights: (R, n).
    """
    total, centred = weights.sum(1), values - values[:1].sum(0)
    whole = weights @ centred**2
    squares = whole - (weights @ centred) ** 2 / total[:, None]
    for column, (direct, all_of_it) in enumerate(zip(squares.T, whole.T, strict=True)):
        rows = np.flatnonzero((direct <= 1e-6 * all_of_it) & (all_of_it > 0))
        if len(rows):
            centre = weights[rows] @ values[:, column] / total[rows]
            squares[rows, column] = (weights[rows] * (values[:, column] - centre[:, None]) ** 2).sum(1)
    return np.asarray(squares)


def length_controlled(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Win rate (percent) at equal length: logit p = w1 * tanh(delta / sd(delta)) + w3, with w1 set to 0.

    The form of AlpacaEval 2 without instruction difficulty and without the anchoring rows, which exist
    for the official 805 instructions only. Columns: ``name`` (preference in [0, 1]), ``length`` and
    ``baseline_length``. The sd is taken anew in each resample.
    """
    valid, y, weights, drawn = _valid_rows(columns, name, weights)
    delta = (float_column(columns, "baseline_length") - float_column(columns, "length"))[valid]
    total = weights.sum(1)
    spread = np.sqrt(_squares(delta[:, None], weights)[:, 0] / np.maximum(total - 1, 1))
    x1 = delta / np.where(spread > 0, spread, 1)[:, None]
    np.tanh(x1, out=x1)
    rate = 100 / (1 + np.exp(-fit_logistic([x1, np.ones(len(delta))], y, weights, ridge=1e-6)[:, 1]))
    return np.where(drawn, rate, np.nan)


def length_controlled_2(columns: PromptColumns, name: str, weights: Array) -> Array:
    """AlpacaEval 2's length-controlled win rate (percent) with difficulty and anchors (:mod:`.length_control`).

    Columns: ``name`` (preference in [0, 1], None where the judge gave none), ``length``, ``baseline_length``,
    ``difficulty``, and ``anchors``: for each prompt its anchor rows, pairs of (tanh of the standardised
    length difference, preference). Anchors are constants: they are not resampled.
    """
    y = float_column(columns, name)
    valid = ~np.isnan(y)
    delta = (float_column(columns, "baseline_length") - float_column(columns, "length"))[valid]
    difficulty = float_column(columns, "difficulty")
    rows = [(x, d, p) for d, pairs in zip(difficulty, columns["anchors"], strict=True) for x, p in pairs]
    anchors = Anchors(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)
    y, difficulty, weights = y[valid], difficulty[valid], weights[:, valid]
    coefficients = fit_length_control(y, delta, difficulty, weights, anchors)
    return length_controlled_rate(coefficients, difficulty, weights)


def length_coefficient(columns: PromptColumns, name: str, weights: Array) -> Array:
    """A judge's length bias: b1 of logit P(it picks the known better answer) = b0 + b1 * delta / sd(delta).

    b0 is the known label's part. Both parts change sign with the order of the two answers, so this is the regression of
    the verdict on label and length difference without an intercept. The sd is taken anew in each resample. An L2
    penalty of 1 (C = 1) keeps the fit finite for a judge that looks at length only. NaN where no lengths differ.

    Columns: ``name`` (1 if the judge picks the known better answer, 0.5 for a tie) and ``length_difference``
    (characters, known better minus worse).
    """
    y, delta = float_column(columns, name), float_column(columns, "length_difference")
    valid = ~np.isnan(y)
    if not valid.any() or not np.ptp(delta[valid]):
        return np.full(len(weights), np.nan)
    y, delta, used = y[valid], delta[valid], weights[:, valid]
    scaled = delta / weighted_sd(delta, used)[:, None]
    return fit_logistic([np.ones(len(y)), scaled], y, used, ridge=1.0)[:, 1]


def style_controlled(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Win rate (percent) at equal style: Bradley-Terry against one baseline with four style features.

    The form of Arena-Hard v0.1 for a pool of this model alone: d = (a - b) / (a + b + 1) for token
    length, headers, lists and bold; logistic regression with L2, C = 1. Each d is scaled by its standard deviation over
    the battles of the resample but not centred: the official mean is over a pool of models, and centring on the model's
    own mean would control nothing.
    Columns: ``name`` (win in [0, 1]), and ``<feature>`` / ``baseline_<feature>``.
    """
    valid, y, weights, drawn = _valid_rows(columns, name, weights)
    raw = []
    for feature in STYLE_FEATURES:
        ours, theirs = (float_column(columns, side + feature)[valid] for side in ("", "baseline_"))
        raw.append((ours - theirs) / (ours + theirs + 1))
    d = np.stack(raw, -1)
    spread = np.sqrt(_squares(d, weights) / weights.sum(1, keepdims=True))
    of_style = 1 / np.where(spread > 1e-9, spread, 1)
    scale = np.concatenate([np.full((len(of_style), 1), np.log(10)), of_style], 1)
    design = np.concatenate([np.ones((len(d), 1)), d], 1)
    beta = fit_scaled(design, scale, y, 2 * weights, ridge=1.0)
    return np.where(drawn, 100 / (1 + np.exp(-np.log(10) * beta[:, 0])), np.nan)


def _wins_and_games(columns: PromptColumns, name: str) -> tuple[Array, Array]:
    """Weighted wins and total weight of each prompt's valid games."""
    wins, total = np.zeros(len(columns[name])), np.zeros(len(columns[name]))
    for i, (scores, weights) in enumerate(zip(columns[name], columns["weight"], strict=True)):
        valid = [(s, w) for s, w in zip(scores, weights, strict=True) if s is not None]
        wins[i], total[i] = sum(s * w for s, w in valid), sum(w for _, w in valid)
    return wins, total


def game_percent(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Score against one baseline, percent: the weighted mean over all valid games, prompts drawn (Arena-Hard).

    Columns: ``name``, each prompt's list of game scores (1 win, 0.5 tie, 0 loss, None without a verdict), and
    ``weight``, the list of the games' weights.
    """
    wins, total = _wins_and_games(columns, name)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100 * (weights @ wins) / (weights @ total))


def _pool(columns: PromptColumns, name: str) -> tuple[Pool, NDArray[np.intp]]:
    """The model's games as a pool of its own, and the prompts that have a valid game."""
    wins, total = _wins_and_games(columns, name)
    used = np.flatnonzero(total)
    ours, theirs = (
        np.stack([float_column(columns, side + f)[used] for f in STYLE_FEATURES], -1) for side in ("", "baseline_")
    )
    return Pool(["model"], len(wins), np.zeros_like(used), used, wins[used], total[used], ours, theirs), used


def equal_style(columns: PromptColumns, name: str, weights: Array, version: Version = "v0.1") -> Array:
    """Score at equal style, percent, with style coefficients from this model's own games.

    This is Arena-Hard's fit, read where all differences of style are 0. The official score is read at the pool's mean
    instead, which would be the model's own mean here.

    Columns: those of :func:`game_percent`, and ``<feature>`` / ``baseline_<feature>`` for each of ``STYLE_FEATURES``.

    Args:
        columns, name, weights: as of every estimator.
        version: Arena-Hard's version, which sets features and penalty.
    """
    pool, used = _pool(columns, name)
    plain = game_percent(columns, name, weights)
    if not len(used):
        return plain
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        fit = fit_style(pool, weights, version)
        centre = (fit.mean / fit.sd * fit.coefficients).sum(1)
        odds = fit.scores[:, 0] / (100 - fit.scores[:, 0]) * np.exp(-centre)
        score = 100 * odds / (1 + odds)
    # without a penalty no fit exists where every game went one way: the score is that end of the scale
    return np.asarray(np.where((version == "v2.0") & ((plain == 0) | (plain == 100)), plain, score))


def equal_style_v2(columns: PromptColumns, name: str, weights: Array) -> Array:
    """:func:`equal_style` with the features and the unpenalised fit of v2.0."""
    return equal_style(columns, name, weights, "v2.0")


def frozen_style(columns: PromptColumns, name: str, weights: Array) -> Array:
    """Score under the style of a named pool that is frozen, percent: one strength is fitted, in each resample again.
    The interval is conditional on the pool's constants.

    Columns: those of :func:`game_percent`, and ``offset``: what the frozen style adds to each prompt's logit
    (:func:`harness.score.bradley_terry.style_offset`).
    """
    pool, used = _pool(columns, name)
    if not len(used):
        return game_percent(columns, name, weights)
    return win_rates_with_offset(pool, weights, float_column(columns, "offset")[used])[:, 0]
