"""Columns of judges whose answers are constructed."""

from __future__ import annotations

from collections.abc import Callable

from harness.score.results import Columns

LENGTHS = [(10, 30), (50, 20), (40, 41), (7, 3), (25, 25), (90, 60), (12, 80), (33, 30)]  # chosen, rejected


def items_of(judge: Callable[[int, int, int], float | None], again: bool = False) -> Columns:
    """Columns of a judge: probability of slot A from (pair, length in A, length in B)."""
    forward = [judge(i, c, r) for i, (c, r) in enumerate(LENGTHS)]
    backward = [judge(i, r, c) for i, (c, r) in enumerate(LENGTHS)]
    return {
        "id": list(range(len(LENGTHS))),
        "forward": forward,
        "backward": backward,
        "again": list(forward) if again else [None] * len(LENGTHS),
        "mass": [None] * len(LENGTHS),
        "length_chosen": [c for c, _ in LENGTHS],
        "length_rejected": [r for _, r in LENGTHS],
    }
