"""MT-Bench's pairwise verdicts (spec/evals 3): who wins a game, and a pair of games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Slot = Literal["A", "B", "tie"]

FIRST_SLOT_POINTS = {"A": 1.0, "B": 0.0, "tie": 0.5}


def read_winner(judgment: str) -> Slot | None:
    """Who wins a game. As in FastChat a label counts wherever it stands, and ``[[A]]`` before ``[[B]]`` before
    ``[[C]]`` where a judgment holds several; None without one."""
    labels: tuple[tuple[str, Slot], ...] = (("[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "tie"))
    return next((slot for label, slot in labels if label in judgment), None)


def game_points(winner: Slot | None, our_slot: Literal["A", "B"]) -> float | None:
    """Our points of one game (1, 0.5 or 0), shown in ``our_slot``; None without a verdict."""
    if winner is None or winner == "tie":
        return None if winner is None else 0.5
    return float(winner == our_slot)


def pair_points(first: float | None, second: float | None) -> float | None:
    """Points of two games: a win or a loss if both agree on it, else a tie; None if one has no verdict."""
    if first is None or second is None:
        return None
    return first if first == second else 0.5


def fastchat_win_rate(rows: Sequence[Mapping[str, Any]], model: str) -> float:
    """FastChat's ``win_rate_adjusted`` (a share): all rows of a model without an error, repeats included."""
    points = []
    for row in rows:
        winners = row["g1_winner"], row["g2_winner"]
        if "error" not in winners and model in (row["model_1"], row["model_2"]):
            side = "model_1" if row["model_1"] == model else "model_2"
            tied = winners[0] == "tie" or winners[0] != winners[1]
            points.append(0.5 if tied else float(winners[0] == side))
    return sum(points) / len(points) if points else float("nan")
