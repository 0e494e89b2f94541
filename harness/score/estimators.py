"""Estimators: a value from per-prompt columns, under any weights of the prompts.

Each takes columns of length n and resampling weights of shape (R, n) (counts of a bootstrap draw; a row of ones is the
data itself) and returns R values. Everything that is estimated from the data is estimated again in each resample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.score.bradley_terry import Pool, Version, with_offset
from harness.score.bradley_terry import style_controlled as style_fit

Array = NDArray[np.float64]

Columns = Mapping[str, Sequence[Any]]


def column(columns: Columns, name: str) -> Array:
    """A column as floats; missing values (None) are NaN."""
    return np.array([np.nan if v is None else float(v) for v in columns[name]], dtype=np.float64)


def mean(columns: Columns, name: str, weights: Array) -> Array:
    """Weighted mean of the valid rows of a column."""
    values = column(columns, name)
    valid = ~np.isnan(values)
    total = weights[:, valid].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(weights[:, valid] @ values[valid] / total)


def percent(columns: Columns, name: str, weights: Array) -> Array:
    """100 times the mean."""
    return 100 * mean(columns, name, weights)


def weighted_mean(columns: Columns, name: str, weights: Array) -> Array:
    """Mean over the set that the rows were drawn from by stratum: column ``weight`` holds how many items of it each
    stands for. Prompts are resampled over all strata at once, so its intervals err on the wide side."""
    return mean(columns, name, weights * column(columns, "weight"))


def weighted_percent(columns: Columns, name: str, weights: Array) -> Array:
    """100 times that."""
    return 100 * weighted_mean(columns, name, weights)


def perplexity(columns: Columns, name: str, weights: Array) -> Array:
    """exp of the token-weighted mean negative log-likelihood: columns ``name`` (nats, summed) and ``tokens``."""
    return np.asarray(np.exp((weights @ column(columns, name)) / (weights @ column(columns, "tokens"))))


def distinct(columns: Columns, name: str, weights: Array) -> Array:
    """Distinct-n (arXiv 1510.03055): percent of all n-grams of all answers that are distinct, by their linear part.

    Columns, for each answer: ``name``, its n-grams that no earlier answer has; ``<name>_only``, those that no other
    answer has; ``<name>_total``, how many it has, repeats included.

    An answer drawn twice brings nothing new, so distinct n-grams counted in a resample are too few on average, and
    their percentile interval would miss the value. Here a resample gains or loses what an answer alone brings, for each
    time that it is drawn more or less than once: right on average, and for one answer taken out exact. The variance is
    that of the delete-one jackknife, which is not too small on average (Efron and Stein 1981). No more than 100.
    """
    new, only, total = (column(columns, f"{name}{part}") for part in ("", "_only", "_total"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.minimum(100 * (new.sum() + (weights - 1) @ only) / (weights @ total), 100))


def sections(columns: Columns, name: str, weights: Array) -> Array:
    """Percent: the mean over sections of the weighted mean in each (RewardBench's score; of one section, its own).

    Columns: ``name`` (None is not valid), ``section`` and ``section_weight``. Rows are drawn over all sections at once.
    """
    values, share = column(columns, name), column(columns, "section_weight")
    label = np.array(columns["section"])
    found = []
    for section in dict.fromkeys(columns["section"]):
        inside = (label == section) & ~np.isnan(values)
        used = weights[:, inside] * share[inside]
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(used @ values[inside] / used.sum(1))
    return np.asarray(100 * np.mean(found, axis=0))


def pooled_mean(columns: Columns, name: str, weights: Array) -> Array:
    """Mean over all valid values of a column of lists (a question's turns, say): prompts are drawn, values pooled."""
    rows = columns[name]
    sums = np.array([sum(v for v in row if v is not None) for row in rows], dtype=np.float64)
    counts = np.array([sum(v is not None for v in row) for row in rows], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ sums) / (weights @ counts))


def pooled_percent(columns: Columns, name: str, weights: Array) -> Array:
    """100 times that."""
    return 100 * pooled_mean(columns, name, weights)


def length_controlled_2(columns: Columns, name: str, weights: Array) -> Array:
    """AlpacaEval 2's length-controlled win rate (percent) with difficulty and anchors (:mod:`.length_control`).

    Columns: ``name`` (preference in [0, 1], None where the judge gave none), ``length``, ``baseline_length``
    (characters), ``difficulty``, and ``anchors``: for each prompt its anchor rows, pairs of (tanh of the standardised
    length difference, preference). Anchors are constants: they are not resampled.
    """
    from harness.score.length_control import Anchors, controlled, fit

    y = column(columns, name)
    valid = ~np.isnan(y)
    delta = (column(columns, "baseline_length") - column(columns, "length"))[valid]
    hard = column(columns, "difficulty")
    rows = [(x, d, p) for d, pairs in zip(hard, columns["anchors"], strict=True) for x, p in pairs]
    anchors = Anchors(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)
    used = weights[:, valid]
    return controlled(fit(y[valid], delta, hard[valid], used, anchors), hard[valid], used)


def logistic(features: Array, y: Array, weights: Array, ridge: float, steps: int = 50) -> Array:
    """Weighted logistic regression with soft labels and no intercept, one fit for each row of weights, by Newton.

    Args:
        features: (R, n, k) or (n, k). y: (n,) in [0, 1]. weights: (R, n). ridge: L2 penalty, as 1/C of scikit-learn.

    Returns:
        coefficients (R, k).
    """
    x = np.broadcast_to(features, (len(weights), *features.shape[-2:]))
    beta = np.zeros((len(weights), x.shape[-1]))
    eye = np.eye(x.shape[-1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(np.einsum("rnk,rk->rn", x, beta), -30, 30)))
        gradient = np.einsum("rnk,rn->rk", x, weights * (y - p)) - ridge * beta
        hessian = np.einsum("rnk,rn,rnl->rkl", x, weights * p * (1 - p), x) + (ridge + 1e-9) * eye
        move = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        beta += np.clip(move, -2, 2)
        if np.abs(move).max() < 1e-10:
            break
    return beta


def length_controlled(columns: Columns, name: str, weights: Array) -> Array:
    """Win rate (percent) at equal length: logit p = w1 * tanh(delta / sd(delta)) + w3, with w1 set to 0.

    The form of AlpacaEval 2 (spec/evals 1.3) without instruction difficulty and without the anchoring rows, which exist
    for the official 805 instructions only. Columns: ``name`` (preference in [0, 1]), ``length`` and
    ``baseline_length`` (characters). sd is taken anew in each resample.
    """
    y = column(columns, name)
    delta = column(columns, "baseline_length") - column(columns, "length")
    total = weights.sum(1, keepdims=True)
    centre = weights @ delta / total[:, 0]
    spread = np.sqrt((weights * (delta - centre[:, None]) ** 2).sum(1) / np.maximum(total[:, 0] - 1, 1))
    x1 = np.tanh(delta / np.where(spread > 0, spread, 1)[:, None])
    features = np.stack([x1, np.ones_like(x1)], -1)
    return np.asarray(100 / (1 + np.exp(-logistic(features, y, weights, ridge=1e-6)[:, 1])))


def length_coefficient(columns: Columns, name: str, weights: Array) -> Array:
    """What length alone is worth to a judge: b1 of logit P(it picks the known better answer) = b0 + b1 * delta / sd.

    b0 is the known label's part. Both parts change sign with the order of the two answers, so this is the regression of
    the verdict on label and length difference without an intercept. Columns: ``name`` (1 if the judge picks the known
    better answer, 0.5 for a tie) and ``length_difference`` (characters, known better minus worse); sd is taken anew in
    each resample. An L2 penalty of 1 (C = 1) keeps a judge that looks at nothing but length finite. NaN where no
    lengths differ.
    """
    from harness.score.length_control import spread

    y, delta = column(columns, name), column(columns, "length_difference")
    valid = ~np.isnan(y)
    if not np.ptp(delta[valid]) if valid.any() else True:
        return np.full(len(weights), np.nan)
    y, delta, used = y[valid], delta[valid], weights[:, valid]
    scaled = delta / spread(delta, used)[:, None]
    return logistic(np.stack([np.ones_like(scaled), scaled], -1), y, used, ridge=1.0)[:, 1]


STYLE = ("tokens", "headers", "lists", "bolds")


def style_controlled(columns: Columns, name: str, weights: Array) -> Array:
    """Win rate (percent) at equal style: Bradley-Terry against one baseline with four style features.

    The form of Arena-Hard v0.1 (spec/evals 2.2) for a pool of this model alone: d = (a - b) / (a + b + 1) for token
    length, headers, lists and bold; logistic regression with L2, C = 1. Each d is scaled by its standard deviation over
    the battles of the resample but not centred: the official mean is over a pool of models, and centring on the model's
    own mean would control nothing.
    Columns: ``name`` (win in [0, 1]), and ``<feature>`` / ``baseline_<feature>``.
    """
    y = column(columns, name)
    raw = []
    for feature in STYLE:
        ours, theirs = column(columns, feature), column(columns, f"baseline_{feature}")
        raw.append((ours - theirs) / (ours + theirs + 1))
    d = np.stack(raw, -1)
    share = weights / weights.sum(1, keepdims=True)
    centre = share @ d
    spread = np.sqrt(np.einsum("rn,rnk->rk", share, (d - centre[:, None]) ** 2))
    scaled = d / np.where(spread > 1e-9, spread, 1)[:, None]
    strength = np.full((*scaled.shape[:2], 1), np.log(10))
    beta = logistic(np.concatenate([strength, scaled], -1), y, 2 * weights, ridge=1.0)
    return np.asarray(100 / (1 + np.exp(-np.log(10) * beta[:, 0])))


def _games(columns: Columns, name: str) -> tuple[Array, Array]:
    """Weighted wins and total weight of each prompt's valid games."""
    wins, total = np.zeros(len(columns[name])), np.zeros(len(columns[name]))
    for i, (scores, weights) in enumerate(zip(columns[name], columns["weight"], strict=True)):
        valid = [(s, w) for s, w in zip(scores, weights, strict=True) if s is not None]
        wins[i], total[i] = sum(s * w for s, w in valid), sum(w for _, w in valid)
    return wins, total


def game_percent(columns: Columns, name: str, weights: Array) -> Array:
    """Score against one baseline, percent: the weighted mean over all valid games, prompts drawn (Arena-Hard).

    Columns: ``name``, each prompt's list of game scores (1 win, 0.5 tie, 0 loss, None without a verdict), and
    ``weight``, the list of the games' weights.
    """
    wins, total = _games(columns, name)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100 * (weights @ wins) / (weights @ total))


def _pool(columns: Columns, name: str) -> tuple[Pool, NDArray[np.intp]]:
    """The model's games as a pool of its own, and the prompts that have a valid game."""
    wins, total = _games(columns, name)
    used = np.flatnonzero(total)
    ours, theirs = (np.stack([column(columns, side + f)[used] for f in STYLE], -1) for side in ("", "baseline_"))
    return Pool(["model"], len(wins), np.zeros_like(used), used, wins[used], total[used], ours, theirs), used


def equal_style(columns: Columns, name: str, weights: Array, version: Version = "v0.1") -> Array:
    """Score at equal style, percent, with style coefficients from this model's own games: Arena-Hard's fit, read where
    all differences of style are 0 instead of at the pool's mean, which is the model's own. Everything is fitted again
    in each resample.

    Columns: those of :func:`game_percent`, and ``<feature>`` / ``baseline_<feature>`` for each of ``STYLE``.
    """
    pool, used = _pool(columns, name)
    plain = game_percent(columns, name, weights)
    if not len(used):
        return plain
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        fit = style_fit(pool, weights, version)
        centre = (fit.mean / fit.sd * fit.coefficients).sum(1)
        odds = fit.scores[:, 0] / (100 - fit.scores[:, 0]) * np.exp(-centre)
        found = 100 * odds / (1 + odds)
    # without a penalty no fit exists where every game went one way: the score is that end of the scale
    return np.asarray(np.where((version == "v2.0") & ((plain == 0) | (plain == 100)), plain, found))


def equal_style_v2(columns: Columns, name: str, weights: Array) -> Array:
    """:func:`equal_style` with the features and the unpenalised fit of v2.0."""
    return equal_style(columns, name, weights, "v2.0")


def frozen_style(columns: Columns, name: str, weights: Array) -> Array:
    """Score under the style of a named pool that is frozen, percent: one strength is fitted, in each resample again.
    The interval is conditional on the pool's constants.

    Columns: those of :func:`game_percent`, and ``offset``: what the frozen style adds to each prompt's logit
    (:func:`harness.score.bradley_terry.style_offset`).
    """
    pool, used = _pool(columns, name)
    if not len(used):
        return game_percent(columns, name, weights)
    return with_offset(pool, weights, column(columns, "offset")[used])[:, 0]


ESTIMATORS: dict[str, Callable[[Columns, str, Array], Array]] = {
    "mean": mean,
    "percent": percent,
    "weighted_mean": weighted_mean,
    "weighted_percent": weighted_percent,
    "perplexity": perplexity,
    "distinct": distinct,
    "sections": sections,
    "pooled_mean": pooled_mean,
    "pooled_percent": pooled_percent,
    "length_controlled": length_controlled,
    "length_controlled_2": length_controlled_2,
    "length_coefficient": length_coefficient,
    "style_controlled": style_controlled,
    "game_percent": game_percent,
    "equal_style": equal_style,
    "equal_style_v2": equal_style_v2,
    "frozen_style": frozen_style,
}
