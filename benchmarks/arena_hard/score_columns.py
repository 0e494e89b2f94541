"""From Arena-Hard's judged rows to per-prompt columns and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.arena_hard.verdict import GameScore, first_slot_score, game_scores
from harness.benchmark import Row
from harness.score.bradley_terry import STYLE_FEATURES, Version
from harness.score.metrics import metric
from harness.score.results import Columns, Metric


def columns_of_games(rows: Sequence[Row], release: Version) -> Columns:
    """Columns of judged rows. ``score``, ``weight``: of both games (None without a verdict; in v2.0 a prompt with such
    a game is left out whole). ``first``: 1 where the slot shown first won. ``agree``: whether both games have the same
    winner. ``tokens`` is the length as a feature of style, in the protocol's unit."""
    labels = [[game["label"] for game in row["games"]] for row in rows]
    games = [game_scores(pair) for pair in labels]
    if release == "v2.0":
        games = [[None, None] if None in pair else pair for pair in games]
    columns: Columns = {
        "id": [r["id"] for r in rows],
        "score": [[game and game.score for game in pair] for pair in games],
        "weight": [[game and game.weight for game in pair] for pair in games],
        "first": [[first_slot_score(label) for label in pair] for pair in labels],
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


def _agree(games: Sequence[GameScore | None]) -> float | None:
    scores = [game.score for game in games if game is not None]
    return None if len(scores) < 2 else float(scores[0] == scores[1])


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
