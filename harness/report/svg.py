"""Small SVG pictures, byte-stable, with no dependency: charts of points, lines and strips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from harness.report.plain import inert
from harness.score.bootstrap import Interval

COLOURS = ("#6b7280", "#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2", "#65a30d")
FONT = "font-family='ui-sans-serif,system-ui,Segoe UI,Helvetica,Arial,sans-serif'"
INK, FAINT, LINE = "#111827", "#6b7280", "#e5e7eb"


@dataclass(frozen=True)
class ChartPoint:
    """A method in a scatter chart: ``x`` and ``y`` with their intervals."""

    name: str
    x: Interval
    y: Interval


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover an interval.

    Args:
        low: lower end.
        high: upper end; the interval is widened if it is empty.
        count: about how many steps to make.
    """
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    step = 10 ** floor(log10(max(high - low, 1e-9) / count))
    step *= min((m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= count), default=10)
    return [round(step * i, 10) for i in range(floor(low / step), ceil(high / step) + 1)]


def _text(
    x: float, y: float, text: str, *, size: int = 13, fill: str = INK, anchor: str = "start", more: str = ""
) -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'"
    return f"<text {place} font-size='{size}' fill='{fill}' {more}>{escape(inert(text))}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' stroke-width='{width}'/>"


def _page(width: int, height: int, label: str, body: Sequence[str]) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'"
    card = f"<rect width='{width}' height='{height}' rx='10' fill='#ffffff'/>"
    return (
        "\n".join([f"{head} role='img' aria-label='{escape(inert(label), quote=True)}' {FONT}>", card, *body, "</svg>"])
        + "\n"
    )


Scale = Callable[[float], float]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 70, 150, 56, 60


def _axes(title: str, titles: tuple[str, str], xs: list[float], ys: list[float]) -> tuple[list[str], Scale, Scale]:
    """Grid and labels as SVG, and the scales from values to x and to y in pixels."""

    def px(value: float) -> float:
        return LEFT + (value - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - RIGHT)

    def py(value: float) -> float:
        return HEIGHT - BOTTOM - (value - ys[0]) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM)

    body = [_text(LEFT, 30, title, size=16, more="font-weight='600'")]
    for v in xs:
        body.append(_line(px(v), TOP, px(v), HEIGHT - BOTTOM, LINE))
        body.append(_text(px(v), HEIGHT - BOTTOM + 18, f"{v:g}", size=11, fill=FAINT, anchor="middle"))
    for v in ys:
        body.append(_line(LEFT, py(v), WIDTH - RIGHT, py(v), LINE))
        body.append(_text(LEFT - 8, py(v) + 4, f"{v:g}", size=11, fill=FAINT, anchor="end"))
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, titles[0], size=12, fill=FAINT, anchor="middle"))
    turned = f"transform='rotate(-90 20 {HEIGHT / 2:.0f})'"
    body.append(_text(20, HEIGHT / 2, titles[1], size=12, fill=FAINT, anchor="middle", more=turned))
    return body, px, py


def _dot(x: float, y: float, colour: str) -> str:
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='{colour}'/>"


def _legend(index: int, count: int, name: str, colour: str) -> list[str]:
    row = TOP + 12 + min(22.0, (HEIGHT - TOP - 24) / count) * index
    return [
        f"<circle cx='{WIDTH - RIGHT + 18}' cy='{row - 4:.1f}' r='5' fill='{colour}'/>",
        _text(WIDTH - RIGHT + 30, row, name, size=13),
    ]


def scatter_chart(title: str, x_title: str, y_title: str, points: Sequence[ChartPoint]) -> str:
    """Points with 95% intervals on both axes.

    Args:
        title: above the chart.
        x_title: of the horizontal axis, which holds 0.
        y_title: of the vertical axis.
        points: at least one; each has a colour and a line in the legend.
    """
    xs = ticks(min(0.0, *(p.x.low for p in points)), max(p.x.high for p in points) or 1)
    ys = ticks(min(p.y.low for p in points), max(p.y.high for p in points))
    body, px, py = _axes(title, (x_title, y_title), xs, ys)
    for index, p in enumerate(points):
        colour = COLOURS[index % len(COLOURS)]
        body.append(_line(px(p.x.low), py(p.y.value), px(p.x.high), py(p.y.value), colour, 1.5))
        body.append(_line(px(p.x.value), py(p.y.low), px(p.x.value), py(p.y.high), colour, 1.5))
        body.append(_dot(px(p.x.value), py(p.y.value), colour))
        body += _legend(index, len(points), p.name, colour)
    return _page(WIDTH, HEIGHT, title, body)


def line_chart(
    title: str, x_title: str, y_title: str, lines: Sequence[tuple[str, Sequence[tuple[float, Interval]]]]
) -> str:
    """One line a method, with the 95% interval of each point.

    Args:
        title: above the chart.
        x_title: of the horizontal axis, from 0 to 1.
        y_title: of the vertical axis.
        lines: the name of each line with its points (x, y).
    """
    intervals = [interval for _, line in lines for _, interval in line]
    ys = ticks(min(i.low for i in intervals), max(i.high for i in intervals))
    body, px, py = _axes(title, (x_title, y_title), [0.0, 0.25, 0.5, 0.75, 1.0], ys)
    for index, (name, line) in enumerate(lines):
        colour, shift = COLOURS[index % len(COLOURS)], 3 * (index - (len(lines) - 1) / 2)
        places = [(px(x) + shift, y) for x, y in line]
        path = " ".join(f"{x:.1f},{py(y.value):.1f}" for x, y in places)
        body.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        for x, y in places:
            body.append(_line(x, py(y.low), x, py(y.high), colour, 1))
            body.append(_dot(x, py(y.value), colour))
        body += _legend(index, len(lines), name, colour)
    return _page(WIDTH, HEIGHT, title, body)


@dataclass(frozen=True)
class Strip:
    """A method in a strip chart: its mean with interval, and the value of each seed."""

    name: str
    mean: Interval
    values: Sequence[float]


def strip_chart(title: str, x_title: str, rows: Sequence[Strip]) -> str:
    """One line a method: a dot for each seed, a diamond for the mean, a bar for its 95% interval.

    Args:
        title: above the chart.
        x_title: of the horizontal axis.
        rows: from top to bottom.
    """
    line, top, left, right, width = 40, 56, 150, 40, 720
    height = top + line * len(rows) + 64
    xs = ticks(min(min(r.mean.low, *r.values) for r in rows), max(max(r.mean.high, *r.values) for r in rows))

    def px(value: float) -> float:
        return left + (value - xs[0]) / (xs[-1] - xs[0]) * (width - left - right)

    body = [_text(16, 30, title, size=16, more="font-weight='600'")]
    for v in xs:
        body.append(_line(px(v), top - 8, px(v), height - 56, LINE))
        body.append(_text(px(v), height - 38, f"{v:g}", size=11, fill=FAINT, anchor="middle"))
    for index, row in enumerate(rows):
        y, colour = top + line * (index + 0.5), COLOURS[index % len(COLOURS)]
        x = px(row.mean.value)
        body.append(_text(left - 14, y + 4, row.name, anchor="end"))
        body.append(_line(px(row.mean.low), y, px(row.mean.high), y, colour, 2))
        corners = f"M{x - 7:.1f} {y:.1f} L{x:.1f} {y - 7:.1f} L{x + 7:.1f} {y:.1f} L{x:.1f} {y + 7:.1f} Z"
        body.append(f"<path d='{corners}' fill='{colour}'/>")
        body += [
            f"<circle cx='{px(v):.1f}' cy='{y - 13:.1f}' r='3.5' fill='none' stroke='{colour}' stroke-width='1.5'/>"
            for v in row.values
        ]
    body.append(_text((left + width - right) / 2, height - 14, x_title, size=12, fill=FAINT, anchor="middle"))
    return _page(width, height, title, body)
