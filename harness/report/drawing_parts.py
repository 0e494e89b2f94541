"""What every figure that is drawn has in common: colours and shapes of rows, the canvas, titles, legend, limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import nan
from textwrap import fill
from typing import Any

from harness.report.figure_types import Span

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of Okabe and Ito (2008), without the yellow, which a white page swallows."""

SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
STYLES = ("-", "--", "-.", ":")
INK, FAINT, BAND = "#222222", "#666666", "#e6e6e6"
LONGEST_NAME = 32
WIDTH = 6.5
"""Inches: the text of a page of paper."""


def colour_of(look: int) -> str:
    """Colour of a row."""
    return COLOURS[look % len(COLOURS)]


def shape_of(look: int) -> str:
    """Shape of a row's points."""
    return SHAPES[look % len(SHAPES)]


def style_of(look: int) -> str:
    """Style of a row's line: another one for each round of the colours."""
    return STYLES[look // len(COLOURS) % len(STYLES)]


def inside_of(look: int) -> dict[str, Any]:
    """Colours of a row's points: filled in the first round of the colours, hollow in the second, and so on."""
    colour, hollow = colour_of(look), look // len(COLOURS) % 2 == 1
    edge = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.3}
    return {"color": colour} | (edge if hollow else {"markeredgecolor": "white", "markeredgewidth": 0.6})


def new_canvas(height: float, title: str, note: str) -> Any:
    """An empty matplotlib figure, whose layout keeps texts apart.

    Args:
        height: inches.
        title: above everything.
        note: below everything.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    canvas = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    canvas.suptitle(fill(title, 78), x=0.02, ha="left", fontsize=9, fontweight="bold", color=INK, parse_math=False)
    set_note(canvas, note)
    return canvas


def set_note(canvas: Any, note: str) -> None:
    """Write the note below everything, in place of one that is there."""
    canvas.supxlabel(fill(note, 104), fontsize=7, color=FAINT, parse_math=False)


def plot_area(canvas: Any, x_title: str, y_title: str) -> Any:
    """The only axes of a chart, with a grid and titles."""
    axes = canvas.subplots()
    axes.grid(color=BAND, linewidth=0.6)
    axes.set_xlabel(fill(x_title, 66), color=INK, parse_math=False)
    axes.set_ylabel(fill(y_title, 40), color=INK, parse_math=False)
    return axes


def add_legend(canvas: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Names of rows beside the chart, in the order given. ``handles``: what was drawn for each."""
    legend = canvas.legend(handles, [" "] * len(names), loc="outside right upper", frameon=False, handlelength=1.6)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(short(name))
        text.set_color(INK)


def draw_bars(axes: Any, bars: Iterable[tuple[tuple[float, float], tuple[float, float]]], **style: Any) -> None:
    """Bars in one path, which keeps an SVG small.

    Args:
        axes: to draw on.
        bars: of each its ends on x and its ends on y.
        style: of a matplotlib line.
    """
    ends = list(bars)
    xs = [x for across, _ in ends for x in (*across, nan)]
    axes.plot(xs, [y for _, down in ends for y in (*down, nan)], **style)


def short(name: str) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def limits(spans: Iterable[Span]) -> tuple[float, float]:
    """Limits of an axis that hold every interval, with a margin of a twentieth."""
    every = list(spans)
    low, high = min(s.low for s in every), max(s.high for s in every)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin
