"""Small numbers of scores: who has the higher number, missing values, rounding."""

from __future__ import annotations


def win_points(first: float, second: float) -> float:
    """1 if the first number is higher, 0 if the second is, one half if they are equal."""
    return 0.5 + 0.5 * ((first > second) - (first < second))


def none_if_nan(value: float) -> float | None:
    """The number, or None for NaN."""
    return None if value != value else value


def rounded(value: float | None) -> float | None:
    """To six decimals, if there is a value."""
    return None if value is None else round(value, 6)
