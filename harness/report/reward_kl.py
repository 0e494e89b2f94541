"""Reward and KL to the start policy, side by side: what pictures, figures and the report draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.report.board import Board, Column
from harness.score.bootstrap import Interval


class Point(NamedTuple):
    """A method with both intervals, which have values."""

    method: str
    kl: Interval
    reward: Interval


@dataclass(frozen=True)
class RewardAndKL:
    """The two columns, and the methods that have a value in both, in the order of the board."""

    kl: Column
    reward: Column
    points: tuple[Point, ...]


def reward_and_kl(board: Board) -> RewardAndKL | None:
    """Of the ``preference`` benchmark; None where one of the two was not measured."""
    columns = {c.metric.name: c for c in board.columns(benchmark="preference")}
    if "kl" not in columns or "gold_reward" not in columns:
        return None
    points = []
    for method in board.methods:
        kl, reward = (board.cell(method, columns[name]) for name in ("kl", "gold_reward"))
        if kl is not None and reward is not None and kl.interval.has_value and reward.interval.has_value:
            points.append(Point(method, kl.interval, reward.interval))
    return RewardAndKL(columns["kl"], columns["gold_reward"], tuple(points))
