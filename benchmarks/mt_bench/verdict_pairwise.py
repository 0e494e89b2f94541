"""MT-Bench's pairwise verdicts (arXiv 2306.05685): who wins a game, and a pair of games."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from benchmarks.mt_bench.layouts import PairwiseJudgment
from benchmarks.mt_bench.stored_text import STORED_AS_FAILED, judgment_text
from harness.answer.reply import Reply
from harness.answer.verdict import Verdict, read_labels

Slot = Literal["A", "B", "tie"]

FIRST_SLOT_POINTS = {"A": 1.0, "B": 0.0, "tie": 0.5}

WINNER_RULE = "[[A]], [[B]] or [[C]], after the thinking; different labels contradict"

_LABEL = re.compile(r"\[\[([ABC])\]\]")
_SLOTS: dict[str, Slot] = {"A": "A", "B": "B", "C": "tie"}


def read_winner(judgment: Reply | str) -> Verdict[Slot]:
    """Who wins a game, or why nobody does. FastChat takes ``[[A]]`` before ``[[B]]`` before ``[[C]]`` where a judgment
    holds several."""
    return read_labels(judgment, lambda text: [_SLOTS[label] for label in _LABEL.findall(text)])


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


class JudgedPair(NamedTuple):
    """A row of FastChat's file, the points of ``model_1`` in both games as we read them, whether a judgment's text was
    read, and whether a game has another winner than the stored one."""

    row: PairwiseJudgment
    games: tuple[Verdict[float], Verdict[float]]
    from_text: bool
    differs: bool

    @property
    def points(self) -> float | None:
        """Of ``model_1`` in both games together; None if one has no verdict."""
        return pair_points(self.games[0].value, self.games[1].value)

    @property
    def reason(self) -> str:
        """Why there are no points; "" where there are."""
        return next((game.reason for game in self.games if game.value is None), "")


_STORED_POINTS = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5}


def judged_pair(row: PairwiseJudgment) -> JudgedPair:
    """The games of a row: the judgments' texts decide; the stored winner does where there is no text."""
    first, second = judgment_text(row.g1_judgment), judgment_text(row.g2_judgment)
    games = _game(first, row.g1_winner, "A"), _game(second, row.g2_winner, "B")
    stored = _STORED_POINTS.get(row.g1_winner), _STORED_POINTS.get(row.g2_winner)
    return JudgedPair(row, games, first is not None or second is not None, (games[0].value, games[1].value) != stored)


def _game(text: str | None, stored_winner: str, slot: Literal["A", "B"]) -> Verdict[float]:
    """Points of ``model_1``, shown in ``slot``."""
    if text is None:
        points = _STORED_POINTS.get(stored_winner)
        return Verdict(points, "" if points is not None else STORED_AS_FAILED)
    winner, reason = read_winner(text)
    return Verdict(game_points(winner, slot), reason)


def fastchat_win_rate(rows: Iterable[PairwiseJudgment], model: str) -> float:
    """FastChat's ``win_rate_adjusted`` (a share): all rows of a model without an error, repeats included."""
    points = []
    for row in rows:
        winners = row.g1_winner, row.g2_winner
        if "error" not in winners and model in (row.model_1, row.model_2):
            side = "model_1" if row.model_1 == model else "model_2"
            tied = winners[0] == "tie" or winners[0] != winners[1]
            points.append(0.5 if tied else float(winners[0] == side))
    return sum(points) / len(points) if points else float("nan")
