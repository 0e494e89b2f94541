"""Figures drawn by matplotlib, for pages and papers: readable in grey print and by colour-blind readers, nothing
overprinted.

Rows differ by shape as well as by colour, names stand beside the chart, and the limits of each axis hold every
interval. Text is drawn as it is: nothing in a name is taken for mathematics. The background is white in every format,
so that dark text stays readable on a dark page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any, Literal

from harness.report.drawing_parts import FAINT, INK
from harness.report.drawing_points import draw_lines, draw_scatter
from harness.report.drawing_rows import draw_forest, draw_strips
from harness.report.figure_types import Figure, Forest, Lines, Scatter, Strips, figure_key
from harness.report.point_names import name_points

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")

SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # it comes with matplotlib, and is wider than most that a reader may have
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.axisbelow": True,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "sail-bench",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "path.simplify": False,
}
PIXELS = 800
"""Width at which a page shows a picture."""


def pictures_of(figure: Figure, formats: Sequence[Format] = FORMATS) -> dict[Format, bytes]:
    """A figure in some formats, as the content of its file, which carries the hash of the numbers.

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
        for form in formats:
            content = io.BytesIO()
            canvas.savefig(content, format=form, metadata=metadata[form])
            made[form] = content.getvalue()
    return made


def page_picture(figure: Figure) -> str:
    """A figure as SVG for a page: as wide as the page, and with its title for readers who do not see it."""
    with warnings.catch_warnings():  # of letters that DejaVu Sans has not: a reader's own fonts have them
        warnings.filterwarnings("ignore", "Glyph .* missing")
        svg = pictures_of(figure, ["svg"])["svg"].decode()
    label = escape(figure.title, quote=True)

    def opening(tag: re.Match[str]) -> str:
        height = PIXELS * float(tag[3]) / float(tag[2])
        return f'{tag[1]} role="img" aria-label="{label}" width="{PIXELS}" height="{height:.0f}"'

    return re.sub(r'(<svg [^>]*?) ?width="([\d.]+)pt" height="([\d.]+)pt"', opening, svg, count=1)


def draw(figure: Figure) -> Any:
    """A figure as matplotlib's ``Figure``, laid out, within :data:`SETTINGS`."""
    match figure:
        case Scatter():
            canvas = draw_scatter(figure)
        case Lines():
            canvas = draw_lines(figure)
        case Forest():
            canvas = draw_forest(figure)
        case Strips():
            canvas = draw_strips(figure)
    canvas.get_layout_engine().execute(canvas)
    canvas.set_layout_engine(None)  # once for all formats; with an engine each would be drawn twice
    if isinstance(figure, Scatter):
        name_points(canvas.axes[0], figure)
    return canvas
