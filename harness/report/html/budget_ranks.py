"""Rank at a budget: rewards on the way (benchmark ``curve``), read at any share of the budget, with bands."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from harness.report.board import Board, Column, SeedEstimates
from harness.report.html.scores import AXIS_TITLES, interval_json
from harness.score.bootstrap import interval_over_seeds
from harness.score.columns import Array

STEPS = 40
"""The page reads the curves at so many equal shares of the budget."""


class Curve(NamedTuple):
    """A method's rewards at shares of the budget.

    Attributes:
        shares: of the budget, ascending, (F,).
        values: of each seed, (K, F).
        samples: their bootstrap replicates in one joint draw for all methods, (K, R, F).
        prompts: how many prompts have a value.
    """

    shares: Array
    values: Array
    samples: Array
    prompts: int

    def at(self, share: float) -> SeedEstimates:
        """The rewards at a share of the budget, between two measured ones by a straight line."""
        place = int(np.clip(np.searchsorted(self.shares, share) - 1, 0, len(self.shares) - 2))
        left, right = self.shares[place], self.shares[place + 1]
        weight = min(max((share - left) / (right - left), 0.0), 1.0)
        values = (1 - weight) * self.values[:, place] + weight * self.values[:, place + 1]
        samples = (1 - weight) * self.samples[:, :, place] + weight * self.samples[:, :, place + 1]
        return SeedEstimates(values, samples)


class Crossing(NamedTuple):
    """Where two methods change places: ``at`` is a share of the budget, ``ahead`` leads beyond it. ``agree``: in what
    share of the resamples the same method leads at the end of the budget."""

    ahead: str
    behind: str
    at: float
    agree: float


def budget_json(board: Board) -> dict[str, Any] | None:
    """Curves, ranks and crossings for the page; None where no curve was measured for two methods."""
    columns = {c.metric.name: c for c in board.columns(benchmark="curve")}
    shares = sorted((n.removeprefix("reward_") for n in columns if n.startswith("reward_")), key=float)
    curves = _curves(board, columns, shares)
    if len(curves) < 2:
        return None
    metric, budget = columns[f"reward_{shares[-1]}"].metric, board.results[0].budget
    first, last = max(c.shares[0] for c in curves.values()), min(c.shares[-1] for c in curves.values())
    grid = [float(share) for share in np.linspace(first, last, STEPS + 1)]
    by_share = [{m: curve.at(share) for m, curve in curves.items()} for share in grid]
    best = [_best(estimates) for estimates in by_share]
    bands = {
        m: [interval_json(interval_over_seeds(*estimates[m], curve.prompts)) for estimates in by_share]
        for m, curve in curves.items()
    }
    limit = float(budget["limit"])
    return {
        "axis": AXIS_TITLES.get(budget["axis"], budget["axis"]),
        "hours": budget["axis"] == "seconds",
        "reward": f"{metric.title.split(' at ')[0]} ({metric.unit})",
        "limit": limit,
        "budgets": [share * limit for share in grid],
        "measured": [float(share) * limit for share in shares],
        "bands": bands,
        "best": {m: [row[m] for row in best] for m in curves},
        "crossings": [
            c._asdict() | {"at": c.at * limit, "leads": _leads(c.ahead, c.at, curves)} for c in crossings(curves)
        ],
    }


def _curves(board: Board, columns: dict[str, Column], shares: list[str]) -> dict[str, Curve]:
    """A curve for each trained method, from the start policy's reward on."""
    origin = board.cell("start", columns[f"reward_{shares[-1]}"]) if shares and "start" in board.methods else None
    curves = {}
    for method in board.methods:
        cells = [(float(s), board.cell(method, columns[f"reward_{s}"])) for s in shares]
        points = [(s, cell) for s, cell in cells if cell is not None and np.isfinite(cell.values).all()]
        if len(points) < 2 - (origin is not None) or all(cell.seeds is None for _, cell in points):
            continue
        seeds = points[0][1].values.shape[0]
        points = [(s, cell) for s, cell in points if cell.values.shape[0] == seeds]
        x, values = [s for s, _ in points], [cell.values for _, cell in points]
        samples = [cell.samples for _, cell in points]
        if origin is not None and origin.ids == points[0][1].ids:
            x = [0.0, *x]
            values = [np.repeat(origin.values[:1], seeds), *values]
            samples = [np.repeat(origin.samples[:1], seeds, axis=0), *samples]
        if len(x) > 1:
            prompts = min(cell.prompts for _, cell in points)
            curves[method] = Curve(np.array(x), np.stack(values, 1), np.stack(samples, 2), prompts)
    return curves


def _best(estimates: dict[str, SeedEstimates]) -> dict[str, float]:
    """In what share of the resamples each method has the highest mean over seeds; a tie is shared."""
    means = np.stack([e.samples.mean(0) for e in estimates.values()])
    first = means >= np.nanmax(means, axis=0) - 1e-12
    shares = (first / first.sum(0)).mean(1)
    return dict(zip(estimates, map(float, shares), strict=True))


def _leads(method: str, share: float, curves: dict[str, Curve]) -> bool:
    """Whether no curve is above a method's at a share of the budget."""
    means = {name: float(curve.at(share).values.mean()) for name, curve in curves.items()}
    return means[method] >= max(means.values()) - 1e-12


def crossings(curves: dict[str, Curve]) -> list[Crossing]:
    """Every budget at which two methods' mean rewards change places, the earliest first.

    Both begin at the start policy; that they are equal there is no crossing.
    """
    names = list(curves)
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    return sorted((c for a, b in pairs for c in _crossings_of(a, b, curves)), key=lambda c: c.at)


def _crossings_of(a: str, b: str, curves: dict[str, Curve]) -> list[Crossing]:
    one, two = curves[a], curves[b]
    shares = sorted({*one.shares.tolist(), *two.shares.tolist()})
    shares = [s for s in shares if max(one.shares[0], two.shares[0]) <= s <= min(one.shares[-1], two.shares[-1])]
    gaps = [float(one.at(s).values.mean() - two.at(s).values.mean()) for s in shares]
    final = one.at(shares[-1]).samples.mean(0) - two.at(shares[-1]).samples.mean(0)
    crossed = []
    before: tuple[float, float] | None = None  # the last share at which they differed, and by how much
    for share, gap in zip(shares, gaps, strict=True):
        if gap == 0:
            continue
        if before is not None and before[1] * gap < 0:
            at = before[0] + (share - before[0]) * before[1] / (before[1] - gap)
            ahead, behind = (a, b) if gap > 0 else (b, a)
            agree = float(np.mean(np.sign(final) == np.sign(gap)))
            crossed.append(Crossing(ahead, behind, at, agree))
        before = (share, gap)
    return crossed
