"""Small numbers of scores: who has the higher number, missing values, probabilities."""

from __future__ import annotations

from harness.score.validity import Invalid, Range, value_or_reason

SHARE: Range = (0, 1)
"""Range of a share or a probability."""

_NOISE = 1e-4


def win_points(first: float | None, second: float | None) -> float | Invalid:
    """1 if the first number is higher, 0 if the second is, one half if they are equal; a reason where one of them is no
    finite number."""
    one, other = value_or_reason(first), value_or_reason(second)
    if isinstance(one, Invalid):
        return one
    if isinstance(other, Invalid):
        return other
    return 0.5 + 0.5 * ((one > other) - (one < other))


def none_if_nan(value: float) -> float | None:
    """The number, or None for NaN."""
    return None if value != value else value


def probability(value: float) -> float:
    """To six decimals; what rounding errors of a sum of probabilities put beyond 0 or 1 is cut off."""
    if -_NOISE < value < 0 or 1 < value < 1 + _NOISE:
        value = min(max(value, 0.0), 1.0)
    return round(value, 6)
