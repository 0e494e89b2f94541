"""From Arena-Hard's judged rows to per-prompt columns and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.arena_hard.judgments import OTHER_GAME
from benchmarks.arena_hard.verdict import UNKNOWN_LABEL, GameScore, first_slot_score, game_score
from harness.answer.verdict import NO_LABEL
from harness.benchmark import Row
from harness.score.bradley_terry import STYLE_FEATURES, Version
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from harness.score.validity import Invalid, Range

RANGES: dict[str, Range] = {"score": (0, 1), "first": (0, 1), "agree": (0, 1), "truncated": (0, 1)}
"""Least and greatest values of the columns."""


def columns_of_games(rows: Sequence[Row], release: Version) -> Columns:
    """Columns of judged rows. ``score``, ``weight``: of both games (without a verdict a reason, and no weight; in v2.0
    a prompt with such a game is left out whole). ``first``: 1 where the slot shown first won. ``agree``: whether both
    games have the same winner. ``tokens`` is the length as a feature of style, in the protocol's unit."""
    games = [_game_scores(row["games"], release) for row in rows]
    columns: Columns = {
        "id": [r["id"] for r in rows],
        "score": [[game if isinstance(game, Invalid) else game.score for game in pair] for pair in games],
        "weight": [[None if isinstance(game, Invalid) else game.weight for game in pair] for pair in games],
        "first": [[_first_slot(game) for game in r["games"]] for r in rows],
        "agree": [_agree(pair) for pair in games],
        "length": [len(r["answer"]["text"]) for r in rows],
        "baseline_length": [r["baseline_length"] for r in rows],
        "truncated": [float(r["answer"]["truncated"]) for r in rows],
    }
    for side in ("", "baseline_"):
        columns |= {side + feature: [r[f"{side}style"][i] for r in rows] for i, feature in enumerate(STYLE_FEATURES)}
    if rows and "offset" in rows[0]:
        columns["offset"] = [r["offset"] for r in rows]
    return columns


def _reason(game: Row) -> Invalid:
    """Why a stored game has no verdict."""
    return Invalid(game.get("reason") or (UNKNOWN_LABEL if game["label"] else NO_LABEL))


def _game_scores(games: Sequence[Row], release: Version) -> list[GameScore | Invalid]:
    """The model's score and the weight of each game of a prompt, game 1 first, or why there is none."""
    scores = [game_score(game["label"], number) or _reason(game) for number, game in enumerate(games, 1)]
    if release == "v2.0" and any(isinstance(score, Invalid) for score in scores):
        return [score if isinstance(score, Invalid) else Invalid(OTHER_GAME) for score in scores]
    return scores


def _first_slot(game: Row) -> float | Invalid:
    score = first_slot_score(game["label"])
    return _reason(game) if score is None else score


def _agree(games: Sequence[GameScore | Invalid]) -> float | Invalid:
    """Whether all games have the same winner."""
    scores = [game.score for game in games if not isinstance(game, Invalid)]
    return Invalid("a game has no verdict") if len(scores) < len(games) else float(scores[0] == scores[1])


def metrics_of_category(group: str, prefix: str, title: str, release: Version, frozen: bool) -> list[Metric]:
    """Metrics of a group of columns.

    Args:
        group: its name.
        prefix: of the metrics' names, and of what follows ``title``; empty for the first category.
        title: of the benchmark.
        release: whose fit is used at equal style.
        frozen: under a frozen pool's style.
    """
    kind, note = ("equal_style", "equal style") if release == "v0.1" else ("equal_style_v2", "equal style")
    if frozen:
        kind, note = "frozen_style", "frozen pool"
    title = f"{title} {prefix.rstrip('_')}".strip()

    def own(name: str, what: str, unit: str, better: Any, kind: str, column: str, primary: bool = False) -> Metric:
        return metric(prefix + name, f"{title} {what}", unit, better, kind, column, group=group, primary=primary)

    return [
        own("sc", f"SC ({note})", "win %", 1, kind, "score", primary=True),
        own("win_rate", "raw", "win %", 1, "game_percent", "score"),
        own("length", "length", "characters", 0, "mean", "length"),
        own("truncated", "truncated", "%", 0, "percent", "truncated"),
        own("shown_first", "judge's share for the first slot", "probability", 0, "pooled_mean", "first"),
        own("agree", "both games agree", "probability", 0, "mean", "agree"),
    ]
