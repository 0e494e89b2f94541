"""Two sides of a comparison by turns, and the ratio of what they measured, with its interval."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

Side = Callable[[int], float]
"""Does the work of a repeat, given its number, and returns what it measured: a positive number."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Setting:
    """Where a comparison works, and how large.

    Attributes:
        folder: for its files.
        quick: a small random model and few repeats.
        start: the start policy, as a recipe names it; "" for the usual one.
    """

    folder: Path
    quick: bool
    start: str = ""

    @property
    def model(self) -> str:
        """The start policy, as a recipe names it."""
        return self.start or ("tiny" if self.quick else "smollm2")

    @property
    def store(self) -> Path:
        """Folder of the store that all comparisons of a run share, so that the start policy is built once."""
        return self.folder.parent / "store"

    @property
    def repeats(self) -> int:
        """Repeats of a comparison by turns."""
        return 8 if self.quick else 5


class Skipped(Exception):  # noqa: N818 - no error: what a comparison needs is not here
    """Why a comparison has nothing to measure on this machine."""


class Ratio(NamedTuple):
    """What two sides measured.

    Attributes:
        name: of the line.
        ours: geometric mean over the repeats; theirs: the other side's.
        unit: of both. Of a rate (``... a second``) more is better, of anything else less.
        ratio: ours over theirs, the geometric mean over the repeats.
        low: lower end of its 95% interval; None after a single repeat; high: the upper end.
        repeats: number of them.
    """

    name: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    low: float | None
    high: float | None
    repeats: int


def ratio_of(name: str, unit: str, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The ratio of two sides, repeat by repeat: what slows a repeat as a whole cancels.

    The interval is Student's, of the mean logarithm.

    Args:
        name: of the line.
        unit: of the values.
        ours: positive values, one a repeat.
        theirs: the other side's, in the same order.

    Raises:
        ValueError: no repeat, unequal numbers of them, or a value that is not positive.
    """
    if not ours or len(ours) != len(theirs) or min(*ours, *theirs) <= 0:
        raise ValueError(f"{name}: needs as many positive values of one side as of the other, not {ours} and {theirs}")
    means = [exp(fmean(map(log, side))) for side in (ours, theirs)]
    logs = [log(a / b) for a, b in zip(ours, theirs, strict=True)]
    centre, low, high = fmean(logs), None, None
    if len(logs) > 1:
        half = _student(len(logs) - 1) * stdev(logs) / sqrt(len(logs))
        low, high = exp(centre - half), exp(centre + half)
    return Ratio(name, means[0], means[1], unit, exp(centre), low, high, len(logs))


def _student(degrees: int) -> float:
    """The quantile of Student's distribution that bounds the interval."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, degrees))


def by_turns(name: str, unit: str, ours: Side, theirs: Side, repeats: int) -> Ratio:
    """Both sides in each repeat, the order alternating. Both are run once before, uncounted: the first run of a shape
    is slower.

    Args:
        name: of the line.
        unit: of what the sides return.
        ours: gets the number of the repeat, 0 for the uncounted one.
        theirs: the other side.
        repeats: number of them.
    """
    values: tuple[list[float], list[float]] = ([], [])
    for place in range(repeats + 1):
        for which in (0, 1) if place % 2 else (1, 0):
            value = (ours, theirs)[which](place)
            if place:
                values[which].append(value)
    return ratio_of(name, unit, *values)


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes, to the end of what it started on a GPU."""
    synchronise()
    began = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - began


def synchronise() -> None:
    """Wait for the GPU, if this process uses one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
