"""MT-Bench's pairwise verdicts (spec/evals 3): which prompt, how it is filled, who wins a game and a pair of games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from benchmarks.mt_bench.verdict_single import REFERENCED, filled

Slot = Literal["A", "B", "tie"]

PROMPTS = ("pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn")

FIRST = {"A": 1.0, "B": 0.0, "tie": 0.5}


def prompt_name(category: str, turn: int) -> str:
    """Name of the official pairwise prompt for a category and a turn (1 or 2)."""
    name = "pair-math-v1" if category in REFERENCED else "pair-v2"
    return name if turn == 1 else f"{name}-multi-turn"


def fill(
    template: str, question: Sequence[str], a: Sequence[str], b: Sequence[str], reference: Sequence[str], turn: int
) -> str:
    """The judge's user prompt for one game. Braces inside texts are left alone.

    Args:
        question, a, b, reference: both turns (``reference`` may be empty where the template asks for none).
    """
    return filled(template, question, {"answer_a": a, "answer_b": b}, reference, turn)


def verdict(judgment: str) -> Slot | None:
    """Who wins a game. As in FastChat a label counts wherever it stands, and ``[[A]]`` before ``[[B]]`` before
    ``[[C]]`` where a judgment holds several; None without one."""
    labels: tuple[tuple[str, Slot], ...] = (("[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "tie"))
    return next((slot for label, slot in labels if label in judgment), None)


def points(game: Slot | None, ours: Literal["A", "B"]) -> float | None:
    """Our points of one game (1, 0.5 or 0), shown in the slot ``ours``."""
    if game is None or game == "tie":
        return None if game is None else 0.5
    return float(game == ours)


def settled(first: float | None, second: float | None) -> float | None:
    """Points of two games: a win or a loss if both agree on it, else a tie; None if one has no verdict."""
    if first is None or second is None:
        return None
    return first if first == second else 0.5


def official_rate(rows: Sequence[Mapping[str, Any]], model: str) -> float:
    """FastChat's ``win_rate_adjusted`` (a share): all rows of a model without an error, repeats included."""
    found = []
    for row in rows:
        games = row["g1_winner"], row["g2_winner"]
        if "error" not in games and model in (row["model_1"], row["model_2"]):
            mine = "model_1" if row["model_1"] == model else "model_2"
            tied = games[0] == "tie" or games[0] != games[1]
            found.append(0.5 if tied else float(games[0] == mine))
    return sum(found) / len(found) if found else float("nan")
