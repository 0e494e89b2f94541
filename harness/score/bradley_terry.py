"""Bradley-Terry strengths of models against one baseline, with style control (Arena-Hard, docs/score.md).

logit P(model beats baseline) = u_m - u_0 + z . b, where z are standardised differences of style. Style coefficients and
standardisation are shared by the whole pool of models, so a style-controlled score means something only beside the
pool's name. Every resample draws prompts once for all models and estimates everything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.score.columns import Array
from harness.score.logistic import Derivatives, newton, sigmoid

Version = Literal["v0.1", "v2.0"]

STYLE_FEATURES = ("tokens", "headers", "lists", "bolds")

CHUNK = 25


@dataclass(frozen=True)
class Pool:
    """Games of several models against one baseline, one row a (model, prompt).

    ``model``, ``prompt``: indices, shape (n,). ``wins``: weighted wins of the model (a tie is half). ``games``: total
    weight (a strong verdict is 3). ``ours``, ``theirs``: style of the model's and the baseline's answers, (n, k), in
    the order of ``STYLE_FEATURES``.
    """

    models: Sequence[str]
    prompts: int
    model: NDArray[np.int64]
    prompt: NDArray[np.int64]
    wins: Array
    games: Array
    ours: Array
    theirs: Array

    def one(self) -> Array:
        """Weights of the data itself, shape (1, prompts)."""
        return np.ones((1, self.prompts))


def win_rates(pool: Pool, weights: Array) -> Array:
    """Scores without style control, percent, shape (R, models).

    With one baseline the Bradley-Terry fit without penalty is the weighted mean of the games.
    """
    onehot = np.eye(len(pool.models))[pool.model]
    rows = weights[:, pool.prompt]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100 * (rows * pool.wins) @ onehot / ((rows * pool.games) @ onehot))


def style_differences(ours: Array, theirs: Array, version: Version) -> Array:
    """Style of the model's answers relative to the baseline's, before standardisation.

    Args:
        ours: style of the model's answers, (n, k), in the order of ``STYLE_FEATURES``.
        theirs: of the baseline's answers to the same prompts, (n, k).
        version: in v2.0 headers, lists and bold spans are taken per token.

    Returns:
        shape (n, k).
    """
    if version == "v0.1":
        return (ours - theirs) / (ours + theirs + 1)
    total = ours[:, :1] + theirs[:, :1]
    tokens = np.divide(ours[:, :1] - theirs[:, :1], total, out=np.zeros_like(total), where=total > 0)
    a, b = ours[:, 1:] / (ours[:, :1] + 1), theirs[:, 1:] / (theirs[:, :1] + 1)
    return np.concatenate([tokens, (a - b) / (a + b + 1)], 1)


@dataclass(frozen=True)
class FrozenStyle:
    """Style that was estimated elsewhere and is frozen: standardisation and coefficients, each of shape (k,)."""

    mean: Array
    sd: Array
    coefficients: Array


@dataclass(frozen=True)
class StyleFit:
    """``scores``: percent against the baseline, (R, models). ``coefficients``: of standardised style, (R, k). ``mean``,
    ``sd``: the standardisation, (R, k)."""

    scores: Array
    coefficients: Array
    mean: Array
    sd: Array

    def frozen(self) -> FrozenStyle:
        """The style of the first fit, to apply to models outside the pool."""
        return FrozenStyle(self.mean[0], self.sd[0], self.coefficients[0])


def fit_style(pool: Pool, weights: Array, version: Version = "v0.1", features: int | None = None) -> StyleFit:
    """Style-controlled scores under any weights of the prompts.

    v0.1: L2 with C = 1 on strengths (in units of ln 10) and style, every game counted twice. v2.0: no penalty, and the
    baseline's strength is 0.

    Args:
        pool: all games; style coefficients are shared by its models.
        weights: counts of one joint draw of prompts for all models, (R, prompts).
        version: Arena-Hard's version, which sets features and penalty.
        features: use the first columns of style only (1 is length); all if it is None.
    """
    d = style_differences(pool.ours, pool.theirs, version)[:, :features]
    start = _fit(pool, d, pool.one(), version).beta
    fits = [_fit(pool, d, weights[i : i + CHUNK], version, start).fit for i in range(0, len(weights), CHUNK)]
    return StyleFit(*(np.concatenate([getattr(f, k) for f in fits]) for k in ("scores", "coefficients", "mean", "sd")))


class _Standardisation(NamedTuple):
    """Mean and standard deviation of each style difference over the games of each resample, (R, k)."""

    mean: Array
    sd: Array


def _standardisation(d: Array, games: Array, version: Version) -> _Standardisation:
    total, ddof = games.sum(1, keepdims=True), 0 if version == "v0.1" else 1
    with np.errstate(invalid="ignore"):  # a resample without a valid game has no mean; its score is left out
        mean = games @ d / total
        variance = np.maximum(games @ d**2 / total - mean**2, 0) * total / np.maximum(total - ddof, 1)
    return _Standardisation(mean, np.where(variance > 1e-18, np.sqrt(variance), 1.0))


class _Fitted(NamedTuple):
    """A fit, and its raw coefficients [strengths, the baseline's in v0.1, style] to start others from."""

    fit: StyleFit
    beta: Array


def _fit(pool: Pool, d: Array, weights: Array, version: Version, start: Array | None = None) -> _Fitted:
    """Newton's method from ``start`` (the data's own fit, say), one fit for each row of weights.

    Only the standardisation of style differs between resamples. So sums run over a raw design [model, d, 1] that they
    share, and a linear map for each resample takes them to its coefficients.
    """
    count, k, r = len(pool.models), d.shape[1], len(weights)
    old = version == "v0.1"
    rows = weights[:, pool.prompt]
    games = (2 if old else 1) * rows * pool.games
    wins = (2 if old else 1) * rows * pool.wins
    mean, sd = _standardisation(d, games, version)
    design = np.concatenate([np.eye(count)[pool.model], d, np.ones((len(d), 1))], 1)
    width = design.shape[1]
    upper = np.triu_indices(width)
    products = design[:, upper[0]] * design[:, upper[1]]
    used = np.flatnonzero(products.any(0))
    maps = np.zeros((r, width, count + k + old))
    maps[:, :count, :count] = np.eye(count)
    if old:
        maps[:, -1, count] = -1
    offset = count + int(old)
    maps[:, count : count + k, offset:] = np.eye(k) / sd[:, None]
    maps[:, -1, offset:] = -mean / sd
    penalty = np.zeros(maps.shape[2])
    if old:
        penalty += 1.0
        penalty[: count + 1] /= log(10) ** 2
    second = np.zeros((r, width, width))

    def derivatives(beta: Array) -> Derivatives:
        p = sigmoid(np.einsum("rwp,rp->rw", maps, beta) @ design.T)
        gradient = np.einsum("rwp,rw->rp", maps, (wins - games * p) @ design) - penalty * beta
        second[:, upper[0][used], upper[1][used]] = (games * p * (1 - p)) @ products[:, used]
        second[:, upper[1], upper[0]] = second[:, upper[0], upper[1]]
        return Derivatives(gradient, np.swapaxes(maps, 1, 2) @ second @ maps + np.diag(penalty + 1e-9))

    first = np.zeros((r, maps.shape[2])) if start is None else np.repeat(start, r, 0)
    beta = newton(derivatives, first, largest_step=3.0, tolerance=1e-6)
    strength = beta[:, :count] - (beta[:, count : count + 1] if old else 0)
    return _Fitted(StyleFit(100 / (1 + np.exp(-strength)), beta[:, offset:], mean, sd), beta)


def win_rates_with_style(pool: Pool, weights: Array, style: FrozenStyle, version: Version = "v0.1") -> Array:
    """Scores of models outside a pool under its frozen style: only the models' strengths are fitted.

    The penalty of v0.1 is omitted; tests/pure/test_golden_scores.py shows what that changes (under 0.05 points).

    Args:
        pool: games of the models outside the pool that the style is from.
        weights: counts of one joint draw of prompts for all models, (R, prompts).
        style: of the other pool.
        version: the one that ``style`` was fitted with.

    Returns:
        percent, (R, models).
    """
    return win_rates_with_offset(pool, weights, style_offset(style_differences(pool.ours, pool.theirs, version), style))


def style_offset(differences: Array, style: FrozenStyle) -> Array:
    """What a frozen style adds to the logit of each row, shape (n,), from rows of :func:`style_differences`."""
    return np.asarray((differences[:, : len(style.mean)] - style.mean) / style.sd @ style.coefficients)


def win_rates_with_offset(pool: Pool, weights: Array, offset: Array) -> Array:
    """Scores where a part of each row's logit is known: only the models' strengths are fitted.

    Args:
        pool: games of the models.
        weights: counts of one joint draw of prompts for all models, (R, prompts).
        offset: the known part, (n,).

    Returns:
        percent, (R, models).
    """
    rows = weights[:, pool.prompt]
    games, wins = rows * pool.games, rows * pool.wins
    onehot = np.eye(len(pool.models))[pool.model]

    def derivatives(strength: Array) -> Derivatives:
        p = sigmoid(strength[:, pool.model] + offset)
        return Derivatives((wins - games * p) @ onehot, np.maximum((games * p * (1 - p)) @ onehot, 1e-9))

    strength = newton(derivatives, np.zeros((len(weights), len(pool.models))))
    return np.asarray(100 / (1 + np.exp(-strength)))
