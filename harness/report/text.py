"""Numbers and intervals as text."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.score.bootstrap import Interval


def format_number(value: float | None, unit: str, *, sign: bool = False) -> str:
    """A number as text; ``n/a`` if there is none.

    Args:
        value: the number; None or NaN if there is none.
        unit: sets the digits: 1 for a percentage, 3 for a share, 2 for anything else.
        sign: write a plus in front of a positive number.
    """
    if value is None or value != value:
        return "n/a"
    digits = 1 if "%" in unit else 3 if unit == "share met" else 2
    value = round(value, 9)  # else the last bit, which differs between machines, would round halves up or down
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def format_interval(interval: Interval, unit: str, *, sign: bool = False) -> str:
    """``value [low, high]``; ``(no spread)`` in place of the brackets where every resample gives the same value.

    Args:
        interval: value and 95% interval.
        unit: sets the digits, as in :func:`format_number`.
        sign: write a plus in front of positive numbers.
    """
    if not interval.has_value:
        return "n/a"
    value = format_number(interval.value, unit, sign=sign)
    if interval.error == 0:
        return f"{value} (no spread)"
    low, high = format_number(interval.low, unit, sign=sign), format_number(interval.high, unit, sign=sign)
    return f"{value} [{low}, {high}]"


def hours_text(hours: float) -> str:
    """Hours as a number: two digits or more that count, down to 0.0001 (0.36 seconds)."""
    places = -floor(log10(hours)) + 1 if hours > 0 else 0
    return f"{hours:.{min(max(places, 0), 4)}f}"
