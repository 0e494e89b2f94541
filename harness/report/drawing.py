"""Figures drawn by matplotlib, for papers: readable in grey print and by colour-blind readers, nothing overprinted.

Rows differ by shape as well as by colour, names stand in a legend beside the chart, and the limits of each axis hold
every interval. Text is drawn as it is: nothing in a name is taken for mathematics.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from textwrap import fill
from typing import Any, Literal

from harness.report.figures import Figure, Forest, Mark, Panel, Scatter, Span, figure_key

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Of Okabe and Ito (2008), without the yellow, which a white page swallows."""

SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
INK, FAINT, BAND = "#222222", "#777777", "#e6e6e6"
SETTINGS = {
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "svg.fonttype": "path",
    "svg.hashsalt": "sail-bench",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}
LONGEST_NAME = 32
NARROW = 4.0
"""A cost axis is logarithmic where its values differ by more than this factor."""


def pictures_of(figure: Figure) -> dict[Format, bytes]:
    """A figure in each format, as the content of its file, which carries the hash of the numbers.

    The same numbers give the same pictures with the same version of matplotlib.
    """
    import matplotlib

    key, made = figure_key(figure), dict[Format, bytes]()
    metadata: dict[Format, dict[str, Any]] = {
        "svg": {"Identifier": key, "Title": figure.title, "Date": None, "Creator": "sail-bench"},
        "png": {"Description": key, "Title": figure.title, "Software": "sail-bench"},
        "pdf": {"Keywords": key, "Title": figure.title, "CreationDate": None, "Creator": "sail-bench"},
    }
    with matplotlib.rc_context(SETTINGS):
        canvas = draw(figure)
        canvas.draw_without_rendering()
        canvas.set_layout_engine("none")  # laid out once for all formats
        for form in FORMATS:
            content = io.BytesIO()
            canvas.savefig(content, format=form, metadata=metadata[form])
            made[form] = content.getvalue()
    return made


def draw(figure: Figure) -> Any:
    """A figure as matplotlib's ``Figure``, within :data:`SETTINGS`."""
    return _scatter(figure) if isinstance(figure, Scatter) else _forest(figure)


def _canvas(width: float, height: float) -> Any:
    """An empty figure, inches; its layout keeps texts apart."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained")


def _scatter(figure: Scatter) -> Any:
    count = len(figure.marks) + 2
    canvas = _canvas(6.5, max(3.8, 0.19 * count + 0.9))
    axes = canvas.subplots()
    handles = [_point(axes, mark, index) for index, mark in enumerate(figure.marks)]
    names = [mark.name for mark in figure.marks]
    if figure.level is not None:
        axes.axhspan(figure.level.y.low, figure.level.y.high, color=BAND, linewidth=0, zorder=0)
        handles.append(axes.axhline(figure.level.y.value, color=FAINT, linestyle=":", linewidth=1, zorder=1))
        names.append(f"{figure.level.name} (no training)")
    if figure.better and len(figure.marks) > 1:
        handles.append(_best_line(axes, figure))
        names.append("best at this cost or less")
    xs, ys = [m.x for m in figure.marks], [m.y for m in [*figure.marks, *([figure.level] if figure.level else [])]]
    if figure.better:
        _cost_axis(axes, xs)
    else:
        axes.set_xlim(*_limits([*xs, Span(0.0, 0.0, 0.0)]))
    axes.set_ylim(*_limits(ys))
    axes.grid(color=BAND, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(fill(figure.x_title, 62), color=INK, parse_math=False)
    axes.set_ylabel(fill(figure.y_title, 40), color=INK, parse_math=False)
    canvas.suptitle(fill(figure.title, 78), x=0.01, ha="left", fontsize=9, fontweight="bold", parse_math=False)
    legend = canvas.legend(handles, [" "] * len(names), loc="outside right upper", frameon=False)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(_short(name))
    return canvas


def _point(axes: Any, mark: Mark, index: int) -> Any:
    """Draw a row with its intervals; what its legend shows."""
    colour = COLOURS[index % len(COLOURS)]
    line = {"color": colour, "linewidth": 1, "markersize": 5, "zorder": 2}
    axes.plot([mark.x.low, mark.x.high], [mark.y.value] * 2, marker="|", **line)
    axes.plot([mark.x.value] * 2, [mark.y.low, mark.y.high], marker="_", **line)
    shape = SHAPES[index % len(SHAPES)]
    drawn = axes.plot(
        [mark.x.value], [mark.y.value], shape, color=colour, markersize=6, markeredgecolor="white",
        markeredgewidth=0.6, zorder=3,
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
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

    low, high = min(s.low for s in spans), max(s.high for s in spans)
    if low <= 0 or high / low <= NARROW:
        axes.set_xlim(*_limits(spans))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    factor = (high / low) ** 0.06
    axes.set_xscale("log")
    axes.set_xlim(low / factor, high * factor)
    wide = high / low > 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=8))
    axes.xaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(99, 99)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _limits(spans: Sequence[Span]) -> tuple[float, float]:
    """Limits that hold every interval, with a margin of a twentieth."""
    low, high = min(s.low for s in spans), max(s.high for s in spans)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def _forest(figure: Forest) -> Any:
    across = min(3, len(figure.panels))
    down = -(-len(figure.panels) // across)
    rows = max(len(panel.differences) for panel in figure.panels)
    canvas = _canvas(6.5, down * (0.22 * rows + 0.8) + 0.7)
    grid = canvas.subplots(down, across, squeeze=False)
    places = [axes for line in grid for axes in line]
    for place, axes in enumerate(places):
        if place < len(figure.panels):
            _panel(axes, figure.panels[place], named=place % across == 0 or not _same_rows(figure.panels))
        else:
            axes.set_axis_off()
    canvas.suptitle(fill(figure.title, 78), x=0.01, ha="left", fontsize=9, fontweight="bold", parse_math=False)
    canvas.supxlabel("95% intervals, paired; filled: a difference is shown (Holm)", fontsize=7, color=FAINT)
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

    count = len(panel.differences)
    for place, row in enumerate(panel.differences):
        y, colour = count - 1 - place, INK if row.shown else FAINT
        axes.plot([row.span.low, row.span.high], [y, y], color=colour, linewidth=1.2)
        inside = colour if row.shown else "white"
        axes.plot([row.span.value], [y], "o", color=colour, markersize=4.5, markerfacecolor=inside)
    axes.axvline(0, color=FAINT, linewidth=0.8, linestyle=":")
    names = [_short(row.name) for row in panel.differences][::-1]
    axes.set_yticks(range(count), names if named else [""] * count, parse_math=False)
    axes.set_ylim(-0.6, count - 0.4)
    axes.set_xlim(*_limits([*(row.span for row in panel.differences), Span(0.0, 0.0, 0.0)]))
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3))
    axes.tick_params(axis="both", labelsize=7)
    axes.set_title(f"{fill(panel.title, 28)}\n{panel.unit}", fontsize=7.5, color=INK, parse_math=False)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
