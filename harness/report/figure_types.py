"""The numbers of a figure. It is drawn from these alone (:mod:`.drawing`) and carries their hash.

So a check compares numbers: no picture has to be equal byte by byte, and none is drawn whose numbers did not change.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, NamedTuple

from harness.score.bootstrap import Interval
from harness.store.json_files import digest

STYLE = 2
"""Raised whenever the same numbers are to be drawn in another way, so that old pictures are drawn anew."""


class Span(NamedTuple):
    """A value with the ends of its interval; the value itself where there is no interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval) -> Span:
        """Of an interval that has a value."""
        ends = [end if isfinite(end) else interval.value for end in (interval.low, interval.high)]
        return cls(interval.value, *ends)


@dataclass(frozen=True)
class Mark:
    """A row in a scatter chart. ``look``: its place among all rows of the results, which sets colour and shape, so that
    a row looks the same in every figure."""

    name: str
    look: int
    x: Span
    y: Span


@dataclass(frozen=True)
class Scatter:
    """Rows by two quantities.

    Attributes:
        name: of its files.
        title, x_title, y_title: above the chart and on its axes.
        note: what the bars are, below it.
        marks: the rows.
        levels: rows without a place on the horizontal axis (nothing was trained), drawn as lines across.
        better: 1 if a higher y is better, -1 if a lower one is; the chart then has a line of the best y at each x or
            less. 0: no line.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    note: str
    marks: tuple[Mark, ...]
    levels: tuple[Mark, ...] = ()
    better: int = 0


@dataclass(frozen=True)
class Difference:
    """A row of a forest plot: minus the reference, and whether a difference is shown."""

    name: str
    span: Span
    shown: bool


@dataclass(frozen=True)
class Panel:
    """One metric of a forest plot, in its unit."""

    title: str
    unit: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Forest:
    """Differences to a reference with their intervals, a panel for each metric."""

    name: str
    title: str
    reference: str
    note: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Line:
    """A row in a line chart: its points from left to right, ``look`` as in :class:`Mark`."""

    name: str
    look: int
    points: tuple[tuple[float, Span], ...]


@dataclass(frozen=True)
class Lines:
    """Rows over one quantity from 0 to 1, with the interval of each point."""

    name: str
    title: str
    x_title: str
    y_title: str
    note: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Strip:
    """A row in a strip chart: its mean with the interval, and the value of each seed."""

    name: str
    mean: Span
    values: tuple[float, ...]


@dataclass(frozen=True)
class Strips:
    """Rows with the value of each of their seeds, from top to bottom."""

    name: str
    title: str
    x_title: str
    note: str
    strips: tuple[Strip, ...]


Figure = Scatter | Forest | Lines | Strips


def record(figure: Figure) -> dict[str, Any]:
    """The JSON form of a figure's numbers, rounded to 8 significant digits."""
    numbers: dict[str, Any] = _rounded({"kind": type(figure).__name__.lower()} | asdict(figure))
    return numbers


def figure_key(figure: Figure) -> str:
    """Hash of a figure's numbers, which each picture made from them carries."""
    return digest([STYLE, record(figure)])


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if not isinstance(value, float):
        return value
    exact = float(f"{value:.12g}")  # else the last bit, which differs between machines, would round halves up or down
    return float(f"{exact:.8g}")
