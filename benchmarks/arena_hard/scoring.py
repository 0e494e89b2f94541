"""From Arena-Hard's judged rows to per-prompt columns and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.arena_hard.verdict import game, slot
from harness.score.bradley_terry import STYLE_FEATURES, Version
from harness.score.metrics import metric
from harness.score.results import Columns, Metric

Game = tuple[float, int] | None


def columns(rows: Sequence[dict[str, Any]], release: Version) -> Columns:
    """Columns of judged rows. ``score``, ``weight``: of both games (None without a verdict; in v2.0 a prompt with such
    a game is left out whole). ``first``: 1 where the slot shown first won. ``agree``: whether both games have the same
    winner. ``tokens`` is the length as a feature of style, in the protocol's unit."""
    labels = [[g["label"] for g in r["games"]] for r in rows]
    games: list[list[Game]] = [[game(found, i + 1) for i, found in enumerate(pair)] for pair in labels]
    if release == "v2.0":
        games = [[None, None] if None in pair else pair for pair in games]
    found: Columns = {
        "id": [r["id"] for r in rows],
        "score": [[g and g[0] for g in pair] for pair in games],
        "weight": [[g and g[1] for g in pair] for pair in games],
        "first": [[slot(name) for name in pair] for pair in labels],
        "agree": [_agree(pair) for pair in games],
        "length": [len(r["answer"]["text"]) for r in rows],
        "baseline_length": [r["baseline_length"] for r in rows],
        "truncated": [float(r["answer"]["truncated"]) for r in rows],
    }
    for side in ("", "baseline_"):
        found |= {side + feature: [r[f"{side}style"][i] for r in rows] for i, feature in enumerate(STYLE_FEATURES)}
    if rows and "offset" in rows[0]:
        found["offset"] = [r["offset"] for r in rows]
    return found


def _agree(pair: Sequence[Game]) -> float | None:
    scores = [g[0] for g in pair if g is not None]
    return None if len(scores) < 2 else float(scores[0] == scores[1])


def metrics_of(group: str, prefix: str, title: str, release: Version, frozen: bool) -> list[Metric]:
    """Metrics of a group of columns; ``frozen``: under a frozen pool's style. ``prefix`` of their names."""
    kind, note = ("equal_style", "equal style") if release == "v0.1" else ("equal_style_v2", "equal style")
    if frozen:
        kind, note = "frozen_style", "frozen pool"
    title = f"{title} {prefix.rstrip('_')}".strip()

    def one(name: str, what: str, unit: str, better: Any, kind: str, column: str, primary: bool = False) -> Metric:
        return metric(prefix + name, f"{title} {what}", unit, better, kind, column, group=group, primary=primary)

    return [
        one("sc", f"SC ({note})", "win %", 1, kind, "score", primary=True),
        one("win_rate", "raw", "win %", 1, "game_percent", "score"),
        one("length", "length", "characters", 0, "mean", "length"),
        one("truncated", "truncated", "%", 0, "percent", "truncated"),
        one("shown_first", "judge's share for the first slot", "probability", 0, "pooled_mean", "first"),
        one("agree", "both games agree", "probability", 0, "mean", "agree"),
    ]
