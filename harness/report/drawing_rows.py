"""Charts with a line of the page for each row, and its name beside it: differences, and values by seed."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from harness.report.drawing_parts import BAND, FAINT, INK, draw_bars, limits, new_canvas, short
from harness.report.figure_types import Forest, Panel, Span, Strips

SEED_LOW, SEED_HIGH = 0.16, 0.46
"""Where the marks of a row's seeds stand above its bar, in rows."""
SEED = "#0072B2"


def draw_forest(figure: Forest) -> Any:
    """A panel for each metric, with the difference of each row."""
    across = min(3, len(figure.panels))
    down = -(-len(figure.panels) // across)
    rows = max(len(panel.differences) for panel in figure.panels)
    canvas = new_canvas(down * (0.22 * rows + 0.8) + 0.7, figure.title, figure.note)
    grid = canvas.subplots(down, across, squeeze=False)
    for place, axes in enumerate(axes for line in grid for axes in line):
        if place < len(figure.panels):
            _panel(axes, figure.panels[place], named=place % across == 0 or not _same_rows(figure.panels))
        else:
            axes.set_axis_off()
    return canvas


def draw_strips(figure: Strips) -> Any:
    """The mean of each row with its interval, and a mark for each seed above it."""
    canvas = new_canvas(0.3 * len(figure.strips) + 1.1, figure.title, figure.note)
    axes = canvas.subplots()
    axes.grid(axis="x", color=BAND, linewidth=0.6)
    _rows(axes, [strip.name for strip in figure.strips])
    for strip, y in zip(figure.strips, _places(len(figure.strips)), strict=True):
        axes.plot([strip.mean.low, strip.mean.high], [y, y], color=INK, linewidth=1.4)
        axes.plot([strip.mean.value], [y], "o", color=INK, markersize=5)
        draw_bars(axes, [((v, v), (y + SEED_LOW, y + SEED_HIGH)) for v in strip.values], color=SEED, linewidth=1.2)
    values = [Span(value, value, value) for strip in figure.strips for value in strip.values]
    axes.set_xlim(*limits([*(strip.mean for strip in figure.strips), *values]))
    axes.set_xlabel(fill(figure.x_title, 66), color=INK, parse_math=False)
    return canvas


def _same_rows(panels: Sequence[Panel]) -> bool:
    """Whether all panels have the same rows, so that one column of names serves a line of panels."""
    return len({tuple(row.name for row in panel.differences) for panel in panels}) == 1


def _panel(axes: Any, panel: Panel, *, named: bool) -> None:
    """One metric: a line for each row, the first on top.

    Args:
        axes: to draw on.
        panel: its numbers.
        named: whether rows have their names beside them.
    """
    from matplotlib.ticker import MaxNLocator

    names = [row.name for row in panel.differences]
    _rows(axes, names if named else [""] * len(names))
    for row, y in zip(panel.differences, _places(len(names)), strict=True):
        colour = INK if row.shown else FAINT
        axes.plot([row.span.low, row.span.high], [y, y], color=colour, linewidth=1.2)
        inside = colour if row.shown else "white"
        axes.plot([row.span.value], [y], "o", color=colour, markersize=4.5, markerfacecolor=inside)
    axes.axvline(0, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set_xlim(*limits([*(row.span for row in panel.differences), Span(0.0, 0.0, 0.0)]))
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3))
    axes.tick_params(axis="both", labelsize=7)
    axes.set_title(f"{fill(panel.title, 28)}\n{panel.unit}", fontsize=7.5, color=INK, parse_math=False)


def _places(count: int) -> Sequence[int]:
    """Heights of the rows, the first on top."""
    return range(count - 1, -1, -1)


def _rows(axes: Any, names: Sequence[str]) -> None:
    """Names of the rows on the vertical axis."""
    axes.set_yticks(_places(len(names)), [short(name) for name in names], parse_math=False)
    axes.set_ylim(-0.6, len(names) - 0.4)
