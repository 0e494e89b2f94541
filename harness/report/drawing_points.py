"""Charts of points: rows by two quantities, and rows over one quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.report.drawing_parts import (
    FAINT,
    add_legend,
    colour_of,
    draw_bars,
    inside_of,
    limits,
    new_canvas,
    plot_area,
    set_note,
    shape_of,
    style_of,
)
from harness.report.figure_types import Lines, Mark, Scatter, Span
from harness.report.point_names import apart
from harness.report.text import power_text

NARROW = 4.0
"""A cost axis is logarithmic where its values differ by more than this factor."""

LEVEL_STYLES = (":", "-.", (0, (5, 5)), (0, (1, 4)))
BAND_OPACITY = 0.12
CROWDED = 8
"""With more rows than this the intervals are paler than the points."""
ROUND = (1, 2, 2.5, 5, 10)
"""Steps between ticks, but for a power of ten."""
DODGE = 0.02
"""How far apart rows may be drawn at one place, as a share of the axis on each side, so that all intervals show."""


def draw_scatter(figure: Scatter) -> Any:
    """Points with their intervals; rows without a place on the x axis as lines across."""
    count = len(figure.marks) + len(figure.levels) + 1
    canvas = new_canvas(_height(count), figure.title, figure.note)
    axes = plot_area(canvas, figure.x_title, figure.y_title)
    opacity = 0.5 if len(figure.marks) > CROWDED else 1.0
    _set_limits(axes, figure)
    shifts = apart(axes, figure.marks)
    if any(shifts):
        set_note(canvas, f"{figure.note} Points at one place are drawn side by side.")
    handles = [_point(axes, mark, opacity, shift) for mark, shift in zip(figure.marks, shifts, strict=True)]
    names = [mark.name for mark in figure.marks]
    for place, level in enumerate(figure.levels):
        axes.axhspan(level.y.low, level.y.high, color=FAINT, alpha=BAND_OPACITY, linewidth=0, zorder=0)
        style = LEVEL_STYLES[place % len(LEVEL_STYLES)]
        handles.append(axes.axhline(level.y.value, color=FAINT, linestyle=style, linewidth=1.2, zorder=1))
        names.append(f"{level.name} (no training)")
    if figure.better and len(figure.marks) > 1:
        handles.append(_best_line(axes, figure))
        names.append("best at this cost or less")
    _set_limits(axes, figure)
    add_legend(canvas, handles, names)
    return canvas


def _set_limits(axes: Any, figure: Scatter) -> None:
    """Limits and ticks of both axes."""
    from matplotlib.ticker import MaxNLocator

    xs = [mark.x for mark in figure.marks]
    if figure.better:
        _cost_axis(axes, xs)
    else:
        axes.set_xlim(*limits([*xs, Span(0.0, 0.0, 0.0)]))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND))
    axes.set_ylim(*limits(mark.y for mark in (*figure.marks, *figure.levels)))
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=ROUND))


def draw_lines(figure: Lines) -> Any:
    """One line a row, with the interval of each point. Rows are moved apart a little."""
    canvas = new_canvas(_height(len(figure.lines)), figure.title, figure.note)
    axes = plot_area(canvas, figure.x_title, figure.y_title)
    handles, middle = [], (len(figure.lines) - 1) / 2
    step = min(0.008, DODGE / max(middle, 1))
    for place, line in enumerate(figure.lines):
        colour, (shares, spans) = colour_of(line.look), zip(*line.points, strict=True)
        xs = [share + step * (place - middle) for share in shares]
        bars = [((x, x), (span.low, span.high)) for x, span in zip(xs, spans, strict=True)]
        draw_bars(axes, bars, color=colour, linewidth=0.8, alpha=0.6)
        handles += axes.plot(
            xs, [s.value for s in spans], style_of(line.look), marker=shape_of(line.look), linewidth=1.2, markersize=5,
            zorder=3, **inside_of(line.look),
        )  # fmt: skip
    axes.set_xticks(sorted({0.0, 1.0, *(share for line in figure.lines for share, _ in line.points)}))
    axes.set_xlim(-2 * DODGE, 1 + 2 * DODGE)
    axes.set_ylim(*limits(span for line in figure.lines for _, span in line.points))
    add_legend(canvas, handles, [line.name for line in figure.lines])
    return canvas


def _height(rows: int) -> float:
    """Inches that hold the chart and a legend of so many rows."""
    return max(3.8, 0.18 * rows + 1.0)


def _point(axes: Any, mark: Mark, opacity: float, shift: float) -> Any:
    """Draw a row with its intervals; what its legend shows.

    Args:
        axes: to draw on.
        mark: the row.
        opacity: of the intervals.
        shift: of everything to the right, in points of print.
    """
    from matplotlib.transforms import ScaledTranslation

    colour = colour_of(mark.look)
    place = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    bars = [((mark.x.value, mark.x.value), (mark.y.low, mark.y.high))]
    if mark.x.low < mark.x.high:
        bars.append(((mark.x.low, mark.x.high), (mark.y.value, mark.y.value)))
    draw_bars(axes, bars, color=colour, linewidth=1.1, zorder=2, alpha=opacity, transform=place)
    drawn = axes.plot(
        [mark.x.value], [mark.y.value], shape_of(mark.look), markersize=6.5, zorder=3, transform=place,
        **inside_of(mark.look),
    )  # fmt: skip
    return drawn[0]


def _best_line(axes: Any, figure: Scatter) -> Any:
    """The line of the best score that a cost buys; a cost buys what a lower one does."""
    best: list[Mark] = []
    for mark in sorted(figure.marks, key=lambda m: (m.x.value, -figure.better * m.y.value)):
        if not best or figure.better * mark.y.value > figure.better * best[-1].y.value:
            best.append(mark)
    xs = [m.x.value for m in best] + [max(m.x.value for m in figure.marks)]
    ys = [m.y.value for m in best] + [best[-1].y.value]
    return axes.plot(xs, ys, color=FAINT, linewidth=1, linestyle="--", drawstyle="steps-post", zorder=1)[0]


def _cost_axis(axes: Any, spans: Sequence[Span]) -> None:
    """The horizontal axis of costs: logarithmic where they differ by much."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = min(s.low for s in spans), max(s.high for s in spans)
    if low <= 0 or high / low <= NARROW:
        axes.set_xlim(*limits(spans))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power_text(value)))
        return
    factor = (high / low) ** 0.06
    axes.set_xscale("log")
    axes.set_xlim(low / factor, high * factor)
    wide = high / low > 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power_text(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
