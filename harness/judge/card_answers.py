"""What asking a judge about pairs with known preferences gives: the columns of a card, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.judge.card_pairs import LabelledPair
from harness.score.results import Columns


@dataclass(frozen=True)
class CardAnswers:
    """``items``: columns of :func:`harness.judge.card_figures.figures`. ``usage``: calls, tokens, cost and seconds, as
    a card's file holds them."""

    items: Columns
    usage: dict[str, Any]


def answer_columns(
    pairs: Sequence[LabelledPair],
    forward: list[float | None],
    backward: list[float | None],
    again: list[float | None],
    mass: list[float | None],
) -> Columns:
    """Columns of :func:`harness.judge.card_figures.figures`; None stands for a call that was not made or not readable.

    Args:
        pairs: what was asked about, (n,).
        forward: probability of slot A with the chosen answer in A, (n,).
        backward: probability of slot A with the chosen answer in B, (n,).
        again: the order of :func:`harness.judge.card_figures.repeated_order` a second time, (n,).
        mass: probability of answering A or B at all, mean of both orders, (n,).
    """
    return {
        "id": list(range(len(pairs))),
        "forward": forward,
        "backward": backward,
        "again": again,
        "mass": mass,
        "length_chosen": [len(p.chosen) for p in pairs],
        "length_rejected": [len(p.rejected) for p in pairs],
    }
