"""Points of a chart that lie on each other are drawn side by side, and names stand beside the points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.report.drawing_parts import FAINT, INK, short
from harness.report.figure_types import Mark, Scatter

NEAR = 5.0
"""Points of print: marks whose centres are nearer than this on both axes hide each other."""

SIZE = 6.0
"""Of a name, in points of print."""

WIDE = 0.66
"""Width of a letter by its size, generously: names are placed without drawing them."""

NEAREST = 8
"""So many of the free places may be preferred to the first, to keep clear of bars."""

WIDER = "\u1100"
"""Letters from here on may be as wide as they are high."""

PLACES = tuple(
    (far * right, 6 / 7 * far * up)
    for far in (7.0, 15.4, 25.2, 36.4)
    for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
)
"""Where a name may stand, from its point, in points of print; the first that is free is taken."""


class _Box(NamedTuple):
    """A rectangle in points of print."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: _Box) -> bool:
        """Whether two rectangles share a place."""
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high


def apart(axes: Any, marks: Sequence[Mark]) -> list[float]:
    """How far each mark is moved to the right, in points of print, so that those at one place stand side by side.

    Args:
        axes: with their limits.
        marks: the rows.
    """
    places = _places(axes, marks)
    groups: list[list[int]] = []
    for i, (x, y) in enumerate(places):
        near = (g for g in groups if abs(places[g[0]][0] - x) < NEAR and abs(places[g[0]][1] - y) < NEAR)
        group = next(near, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    shifts = [0.0] * len(marks)
    for group in groups:
        for rank, i in enumerate(group):
            shifts[i] = (rank - (len(group) - 1) / 2) * 1.4 * NEAR
    return shifts


def name_points(axes: Any, figure: Scatter) -> None:
    """Write names beside the points where there is room: a name lies over no point and no other name.

    Args:
        axes: laid out, with the points drawn.
        figure: what they show.
    """
    shifts = apart(axes, figure.marks)
    points = [(x + shift, y) for (x, y), shift in zip(_places(axes, figure.marks), shifts, strict=True)]
    area = axes.get_window_extent()
    scale = 72 / axes.figure.dpi
    inside = _Box(area.x0 * scale + 2, area.y0 * scale + 2, area.x1 * scale - 2, area.y1 * scale - 2)
    taken = [_Box(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    bars = [bar for mark, point in zip(figure.marks, points, strict=True) if (bar := _bar(axes, mark, point))]
    for mark, point in zip(figure.marks, points, strict=True):
        free = [(place, box) for place, box in _boxes(short(mark.name), point) if _is_free(box, inside, taken)]
        clear = [(place, box) for place, box in free[:NEAREST] if not any(box.meets(bar) for bar in bars)]
        if free:
            place, box = (clear or free)[0]
            taken.append(box)
            _write(axes, short(mark.name), point, place)


def _bar(axes: Any, mark: Mark, point: tuple[float, float]) -> _Box | None:
    """The bar of a mark along the horizontal axis, if it has one: it would strike a name out."""
    if mark.x.low >= mark.x.high:
        return None
    ends = axes.transData.transform([(mark.x.low, mark.y.value), (mark.x.high, mark.y.value)])[:, 0]
    low, high = (float(end) * 72 / axes.figure.dpi for end in ends)
    return _Box(low, point[1] - 0.5, high, point[1] + 0.5)


def _boxes(name: str, point: tuple[float, float]) -> list[tuple[tuple[float, float], _Box]]:
    """Every place that a name may have, with what it takes there."""
    width = SIZE * sum(WIDE if letter < WIDER else 1.1 for letter in name)
    return [((dx, dy), _box(point[0] + dx, point[1] + dy, dx, width)) for dx, dy in PLACES]


def _is_free(box: _Box, inside: _Box, taken: Sequence[_Box]) -> bool:
    """Whether a name has room in a box: within the axes, and clear of what is there."""
    within = box.left >= inside.left and box.right <= inside.right and box.low >= inside.low and box.high <= inside.high
    return within and not any(box.meets(other) for other in taken)


def _places(axes: Any, marks: Sequence[Mark]) -> list[tuple[float, float]]:
    """Where marks lie on the page, in points of print."""
    scale = 72 / axes.figure.dpi
    pixels = axes.transData.transform([(mark.x.value, mark.y.value) for mark in marks])
    return [(float(x) * scale, float(y) * scale) for x, y in pixels]


def _box(x: float, y: float, dx: float, width: float) -> _Box:
    """What a name takes that is anchored at (x, y) and lies to the right of it, to the left, or about it."""
    left = x if dx > 0 else x - width if dx < 0 else x - width / 2
    return _Box(left, y - 0.6 * SIZE, left + width, y + 0.6 * SIZE)


def _write(axes: Any, name: str, point: tuple[float, float], offset: tuple[float, float]) -> None:
    """Write a name; one that stands further away has a line to its point.

    Args:
        axes: to write on.
        name: as it is drawn.
        point: in points of print.
        offset: from the point, likewise.
    """
    from matplotlib.transforms import Affine2D

    (x, y), (dx, dy) = point, offset
    side = "left" if dx > 0 else "right" if dx < 0 else "center"
    place = Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans
    text = axes.text(
        x + dx, y + dy, name, transform=place, fontsize=SIZE, color=INK, ha=side, va="center", zorder=4,
        parse_math=False,
    )  # fmt: skip
    text.set_in_layout(False)
    if abs(dx) > 8 or abs(dy) > 8:
        ends = [x, x + dx], [y, y + dy]
        axes.plot(*ends, transform=place, color=FAINT, linewidth=0.4, zorder=1, scalex=False, scaley=False)
