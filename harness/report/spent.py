"""What runs spent on the axes of a budget, by their ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.budget.ledger import Ledger
from harness.score.results import RunResult

SAME_COST = 1.1
"""Costs whose ratio is smaller are called the same."""


class TimeUnit(NamedTuple):
    """A unit of time: its name in the plural, and how many ``seconds`` it has."""

    name: str
    seconds: float


TIMES = (TimeUnit("seconds", 1.0), TimeUnit("minutes", 60.0), TimeUnit("hours", 3600.0))
"""Units of time that a page uses."""


def unit_of_time(longest: float) -> TimeUnit:
    """The largest unit of which the longest run, in seconds, took at least two."""
    return [unit for unit in TIMES if longest >= 2 * unit.seconds or unit is TIMES[0]][-1]


def spent_on(run: RunResult, axis: str) -> float:
    """What counts of a run's ledger towards an axis, the stored pairs included unless the recipe has them free.

    Args:
        run: a finished one.
        axis: a name in :data:`harness.budget.ledger.AXES`, whose unit the result has.
    """
    return Ledger.load(run.ledger).spent(axis, free_data=bool(run.budget.get("free_data")))


def mean_spent(runs: Sequence[RunResult], axis: str) -> float:
    """:func:`spent_on` of several runs, on average.

    Args:
        runs: at least one.
        axis: as there.
    """
    return sum(spent_on(run, axis) for run in runs) / len(runs)
