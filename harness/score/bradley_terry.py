"""Bradley-Terry strengths of models against one baseline, with style control (Arena-Hard; spec/evals 2.1 to 2.3).

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

Array = NDArray[np.float64]

Version = Literal["v0.1", "v2.0"]

CHUNK = 25


@dataclass(frozen=True)
class Pool:
    """Games of several models against one baseline, one row a (model, prompt).

    ``model``, ``prompt``: indices, shape (n,). ``wins``: weighted wins of the model (a tie is half). ``games``: total
    weight (a strong verdict is 3). ``ours``, ``theirs``: style of the answers, (n, k): token length, then headers,
    lists and bold spans.
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

    With one baseline the Bradley-Terry fit without penalty is the weighted mean of the games (spec/evals 2.1).
    """
    onehot = np.eye(len(pool.models))[pool.model]
    rows = weights[:, pool.prompt]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100 * (rows * pool.wins) @ onehot / ((rows * pool.games) @ onehot))


def differences(ours: Array, theirs: Array, version: Version) -> Array:
    """Style of the model's answer relative to the baseline's, shape (n, k), before standardisation."""
    if version == "v0.1":
        return (ours - theirs) / (ours + theirs + 1)
    total = ours[:, :1] + theirs[:, :1]
    tokens = np.divide(ours[:, :1] - theirs[:, :1], total, out=np.zeros_like(total), where=total > 0)
    a, b = ours[:, 1:] / (ours[:, :1] + 1), theirs[:, 1:] / (theirs[:, :1] + 1)
    return np.concatenate([tokens, (a - b) / (a + b + 1)], 1)


@dataclass(frozen=True)
class Style:
    """Style that was estimated elsewhere and is frozen: standardisation and coefficients, each of shape (k,)."""

    mean: Array
    sd: Array
    coefficients: Array


@dataclass(frozen=True)
class Fit:
    """``scores``: percent against the baseline, (R, models). ``coefficients``: of standardised style, (R, k). ``mean``,
    ``sd``: the standardisation, (R, k)."""

    scores: Array
    coefficients: Array
    mean: Array
    sd: Array

    def frozen(self) -> Style:
        """The style of the first fit, to apply to models outside the pool."""
        return Style(self.mean[0], self.sd[0], self.coefficients[0])


def style_controlled(pool: Pool, weights: Array, version: Version = "v0.1", features: int | None = None) -> Fit:
    """Style-controlled scores under any weights of the prompts.

    v0.1: L2 with C = 1 on strengths (in units of ln 10) and style, every game counted twice. v2.0: no penalty, and the
    baseline's strength is 0. ``features``: the first columns only (1 is length).

    Args:
        weights: counts of one joint draw of prompts for all models, shape (R, prompts).
    """
    d = differences(pool.ours, pool.theirs, version)[:, :features]
    start = _fit(pool, d, pool.one(), version).beta
    parts = [_fit(pool, d, weights[i : i + CHUNK], version, start).fit for i in range(0, len(weights), CHUNK)]
    return Fit(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("scores", "coefficients", "mean", "sd")))


class _Fitted(NamedTuple):
    fit: Fit
    beta: Array


def _fit(pool: Pool, d: Array, weights: Array, version: Version, start: Array | None = None) -> _Fitted:
    """Newton's method from ``start`` (the data's own fit, say), one fit for each row of weights."""
    count, k, r = len(pool.models), d.shape[1], len(weights)
    old = version == "v0.1"
    rows = weights[:, pool.prompt]
    games = (2 if old else 1) * rows * pool.games
    wins = (2 if old else 1) * rows * pool.wins
    total = games.sum(1, keepdims=True)
    mean = games @ d / total
    ddof = 0 if old else 1
    variance = np.maximum(games @ d**2 / total - mean**2, 0) * total / np.maximum(total - ddof, 1)
    sd = np.where(variance > 1e-18, np.sqrt(variance), 1.0)
    # Raw design [model, d, 1] and, for each resample, the linear map to [u_models, u_baseline, b]
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
    beta = np.zeros((r, maps.shape[2])) if start is None else np.repeat(start, r, 0)
    second = np.zeros((r, width, width))
    for _ in range(60):
        raw = np.einsum("rwp,rp->rw", maps, beta)
        p = 1 / (1 + np.exp(-np.clip(raw @ design.T, -30, 30)))
        gradient = np.einsum("rwp,rw->rp", maps, (wins - games * p) @ design) - penalty * beta
        second[:, upper[0][used], upper[1][used]] = (games * p * (1 - p)) @ products[:, used]
        second[:, upper[1], upper[0]] = second[:, upper[0], upper[1]]
        hessian = np.swapaxes(maps, 1, 2) @ second @ maps + np.diag(penalty + 1e-9)
        move = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        beta += np.clip(move, -3, 3)
        if np.abs(move).max() < 1e-6:  # quadratic: what is left is the square of that
            break
    strength = beta[:, :count] - (beta[:, count : count + 1] if old else 0)
    return _Fitted(Fit(100 / (1 + np.exp(-strength)), beta[:, offset:], mean, sd), beta)


def with_style(pool: Pool, weights: Array, style: Style, version: Version = "v0.1") -> Array:
    """Scores of models outside a pool under its frozen style, percent, (R, models): one strength a model is fitted.

    The penalty of v0.1 is left out; tests/test_golden_scores.py shows what that changes (under 0.05 points).
    """
    return with_offset(pool, weights, style_offset(differences(pool.ours, pool.theirs, version), style))


def style_offset(differences: Array, style: Style) -> Array:
    """What a frozen style adds to the logit of each row, shape (n,), from rows of :func:`differences`."""
    return np.asarray((differences[:, : len(style.mean)] - style.mean) / style.sd @ style.coefficients)


def with_offset(pool: Pool, weights: Array, offset: Array) -> Array:
    """Scores where the logit of each row has a known part ``offset``, shape (n,); percent, (R, models)."""
    rows = weights[:, pool.prompt]
    games, wins = rows * pool.games, rows * pool.wins
    onehot = np.eye(len(pool.models))[pool.model]
    u = np.zeros((len(weights), len(pool.models)))
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(u[:, pool.model] + offset, -30, 30)))
        gradient, hessian = (wins - games * p) @ onehot, (games * p * (1 - p)) @ onehot
        move = np.clip(gradient / np.maximum(hessian, 1e-9), -2, 2)
        u += move
        if np.abs(move).max() < 1e-9:
            break
    return np.asarray(100 / (1 + np.exp(-u)))
