"""Words that the rules behind a page's verdict share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.report.markdown import code
from harness.report.summary_facts import NAMED, listed
from harness.score.verdicts import Difference, Verdict


class ByVerdict(NamedTuple):
    """Methods that are better, worse, and not shown to differ; those that cannot be compared are among the last."""

    better: list[str]
    worse: list[str]
    same: list[str]


def sorted_by_verdict(methods: Sequence[str], differences: Mapping[str, Difference]) -> ByVerdict:
    """Methods by the verdicts on their differences.

    Args:
        methods: the names, in an order that stays.
        differences: by method.
    """
    verdicts = {m: differences[m].verdict if m in differences else None for m in methods}
    better = [m for m in methods if verdicts[m] is Verdict.BETTER]
    worse = [m for m in methods if verdicts[m] is Verdict.WORSE]
    return ByVerdict(better, worse, [m for m in methods if m not in better and m not in worse])


def duration(hours: float) -> str:
    """Hours in words, in the largest unit of which there is one: ``40 seconds``, ``4.7 minutes``, ``3.2 hours``."""
    unit, value = "hour", hours
    for smaller in ("minute", "second"):
        if round(value, 9) < 1:
            unit, value = smaller, 60 * value
    digits = 3 if unit == "hour" else 2
    number = f"{value:,.0f}" if value >= 100 else f"{value:.{digits}g}"
    return f"{number} {unit}{'' if number == '1' else 's'}"


def counted(methods: Sequence[str]) -> str:
    """Rows by name, or how many they are."""
    return f"{len(methods)} rows" if len(methods) > NAMED else listed([code(m) for m in methods])


def verb(methods: Sequence[str], one: str, many: str) -> str:
    """The form of a verb for so many methods."""
    return one if len(methods) == 1 else many
