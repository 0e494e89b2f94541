"""Numbers and intervals as text."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.score.bootstrap import Interval

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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


def time_text(time: float) -> str:
    """A time in any unit as a number: two digits or more that count, down to 0.0001."""
    places = -floor(log10(time)) + 1 if time > 0 else 0
    return f"{time:.{min(max(places, 0), 4)}f}"


def power_text(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """A number, from 10,000 on with its power of ten: ``1.09·10¹³``, and ``10¹³`` for the power itself.

    Args:
        value: the number.
        digits: so many count.
        sign: write a plus in front of a positive number.
    """
    plus = "+" if sign else ""
    text = f"{float(f'{value:.{digits}g}'):{plus}g}"
    if abs(float(text)) >= 1e4:
        factor, power = f"{value:{plus}.{digits - 1}e}".split("e")
        factor = factor.rstrip("0").rstrip(".") if "." in factor else factor
        times = factor[:-1] if factor.lstrip("+-") == "1" else f"{factor}·"
        text = f"{times}10{str(int(power)).translate(SUPERSCRIPT)}"
    return text.replace("-", "−")
