"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from harness.score.bootstrap import Interval


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, unit: str, *, sign: bool = False) -> str:
    """A number with the digits that its unit deserves; ``n/a`` if it is none."""
    if value is None or value != value:
        return "n/a"
    digits = 1 if "%" in unit else 3 if unit == "share met" else 2
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def spread(found: Interval, unit: str, *, sign: bool = False) -> str:
    """``value [low, high]``; no brackets where resampling the prompts changes nothing, so that there is no interval, or
    where there is no value."""
    if not found.known:
        return "n/a"
    if found.error == 0:
        return f"{number(found.value, unit, sign=sign)} (no spread)"
    low, high = number(found.low, unit, sign=sign), number(found.high, unit, sign=sign)
    return f"{number(found.value, unit, sign=sign)} [{low}, {high}]"
