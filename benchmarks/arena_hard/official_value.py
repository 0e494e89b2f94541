"""What the official tool makes of judgment rows: stored labels, every row counted (arXiv 2406.11939)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.arena_hard.layouts import Game, JudgmentRow
from benchmarks.arena_hard.verdict import game_totals, known_label
from harness.score.bradley_terry import Version


class OfficialValue(NamedTuple):
    """The score in percent, or why there is none."""

    value: float | None
    problem: str = ""


class PlacedJudgment(NamedTuple):
    """A row of judgments with its place: file and line."""

    place: str
    row: JudgmentRow


def official_value(rows: Iterable[PlacedJudgment], version: Version) -> OfficialValue:
    """The score without style control that ``show_result.py`` gives for a model's rows.

    Every row counts, repeats too. v0.1 leaves out a game without a known label; v2.0 leaves out rows with a game that
    has none, and stops at an unknown label. (v2.0 prints the mean of 100 resamples of this value.)

    Args:
        rows: of one model and category, with their places.
        version: of Arena-Hard.
    """
    wins = weight = 0.0
    for place, row in rows:
        games = _first_two(row)
        if games is None:
            return OfficialValue(None, f"the official tool cannot read {place}, which lacks a game or its 'score'")
        labels = [game.score if game is not None else None for game in games]
        if version == "v0.1" and None in games:
            return OfficialValue(None, f"the official tool cannot read {place}, where a game is null")
        if version == "v2.0" and None in labels:
            continue
        valid = [known_label(label, version) if label is not None else None for label in labels]
        if version == "v2.0" and None in valid:
            return OfficialValue(None, f"the official tool stops at {place}, whose label it does not know")
        totals = game_totals(valid)
        wins, weight = wins + totals.wins, weight + totals.weight
    return OfficialValue(100 * wins / weight) if weight else OfficialValue(None, "no row has a stored label")


def _first_two(row: JudgmentRow) -> Sequence[Game | None] | None:
    """The two games that it looks at; None where one is not there, or has no ``score``."""
    games = row.games or []
    if len(games) < 2 or any(game is not None and "score" not in game.model_fields_set for game in games[:2]):
        return None
    return games[:2]
