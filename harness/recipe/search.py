"""The recorded search: which settings each method tries. Each method of a comparison gets as many trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from harness.errors import UserError
from harness.recipe.recipe import TuneSpec

MOST_POINTS = 1000
"""That a method may offer to the search: learning rates x its grid."""


@dataclass(frozen=True)
class Point:
    """One trial: a learning rate and options of the method."""

    learning_rate: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join([f"lr={self.learning_rate:g}", *[f"{k}={v}" for k, v in self.options.items()]])

    def record(self) -> dict[str, Any]:
        """Its JSON form in the result file."""
        return {"learning_rate": self.learning_rate, "options": dict(self.options)}


def points(tune: TuneSpec, name: str, grid: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]) -> list[Point]:
    """The trials of a method.

    Args:
        tune: the recipe's search.
        name: the row's name, under which ``tune.grids`` may hold another grid.
        grid: the method's own grid: values by option.
        fixed: options that the recipe sets, which are not searched.

    Raises:
        UserError: the method offers fewer points than there are trials, or more than can be searched.
    """
    searched = {} if tune.trials is None else {k: v for k, v in tune.grids.get(name, grid).items() if k not in fixed}
    offered = len(tune.learning_rates) * math.prod(map(len, searched.values()))
    if offered > MOST_POINTS:
        raise UserError(
            f"tune offers {offered:,} points for {name}, {MOST_POINTS:,} at most can be searched: shorten "
            f"tune.learning_rates or tune.grids.{name}"
        )
    if tune.trials is None:
        return [Point(rate) for rate in tune.learning_rates]
    candidates = [
        Point(rate, dict(zip(searched, values, strict=True)))
        for rate in tune.learning_rates
        for values in product(*searched.values())
    ]
    if len(candidates) < tune.trials:
        raise UserError(
            f"tune.trials asks for {tune.trials} trials, {name} offers {len(candidates)} points "
            f"({len(tune.learning_rates)} learning rates x its own grid): add to tune.learning_rates or to "
            f"tune.grids.{name}"
        )
    return spread(candidates, tune.trials)


def spread(candidates: Sequence[Point], count: int) -> list[Point]:
    """``count`` points that use each value of each setting about equally often, in the order of ``candidates``."""
    used: Counter[tuple[str, str]] = Counter()
    left, taken = list(candidates), list[Point]()
    while len(taken) < count:
        chosen = min(left, key=lambda p: (sum(used[level] for level in _levels(p)), left.index(p)))
        left.remove(chosen)
        taken.append(chosen)
        used.update(_levels(chosen))
    return sorted(taken, key=candidates.index)


def _levels(point: Point) -> list[tuple[str, str]]:
    return [("learning_rate", str(point.learning_rate)), *[(k, str(v)) for k, v in point.options.items()]]
