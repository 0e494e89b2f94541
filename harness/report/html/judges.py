"""Judges of a comparison, with what their cards measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.report.board import Board
from harness.report.judge_citation import card_files, missing_card_sentence
from harness.score.judge_cards import CardSection, read_card
from harness.store.json_files import digest


def judges_json(board: Board, folder: Path) -> list[dict[str, Any]]:
    """Every judge that gave verdicts, what it judged, and its card if there is one.

    Args:
        board: all results of the page.
        folder: ``<results>/<recipe>/<budget>``.
    """
    judges: dict[str, dict[str, Any]] = {}
    for run in board.finished:
        for scored in run.benchmarks:
            if scored.judge:
                record = judges.setdefault(digest(scored.judge), {"judge": scored.judge, "of": [], "answered": []})
                record["of"] = list(dict.fromkeys([*record["of"], scored.title]))
                record["answered"] = sorted({*record["answered"], *scored.snapshots})
    cards = {card.key: card for card in map(read_card, card_files(folder))}
    rows = []
    for key, record in sorted(judges.items()):
        judge, card = record["judge"], cards.get(key)
        start = board.results[0].start["model"]
        missing = "" if card and card.sections else missing_card_sentence(judge, start).replace("`", "")
        rows.append(
            {
                "key": key,
                "name": str(judge.get("model", judge["kind"])),
                "kind": "the start policy itself, by log-probability" if "local" in judge["kind"] else judge["kind"],
                "orders": str(judge.get("orders", "")),
                "of": record["of"],
                "answered": record["answered"],
                "missing": missing,
                "sections": [_section_json(section) for section in card.sections] if card else [],
            }
        )
    return rows


def _section_json(section: CardSection) -> dict[str, Any]:
    figures = [
        {"title": m.title, "unit": m.unit, "value": m.value, "low": m.low, "high": m.high, "n": m.n_valid}
        for m in section.metrics
        if m.value is not None
    ]
    return {
        "file": section.data.get("file", ""),
        "pairs": section.data.get("used"),
        "date": section.date,
        "command": section.command,
        "figures": figures,
    }
