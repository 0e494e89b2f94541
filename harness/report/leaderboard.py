"""``LEADERBOARD.md`` and the files beside it, from the result files alone. The same files give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from harness.report.board import Board
from harness.report.costs import costs_section
from harness.report.distance import distance_section
from harness.report.introduction import introduction
from harness.report.judge_citation import card_sentences
from harness.report.method_sections import (
    failures_section,
    methods_section,
    protocols_section,
    search_section,
    training_section,
)
from harness.report.pictures import pictures
from harness.report.score_sections import differences_section, scores_section, secondary_section
from harness.report.subjects import FILE as SUBJECTS
from harness.report.subjects import subjects_page
from harness.score.results import RunResult, read_results
from harness.store.json_files import write_text

PAGE = "LEADERBOARD.md"


def render_pages(results: Sequence[RunResult], cards: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """File names and contents of a leaderboard.

    Args:
        results: all runs of one recipe under one budget, at least one.
        cards: for each judge that has a card, the sentence that links it (:mod:`.judge_citation`).
    """
    board = Board(results)
    files = pictures(board)
    by_subject = subjects_page(board)
    if by_subject:
        files[SUBJECTS] = by_subject
    sections = [introduction(board, cards, files), scores_section(board)]
    if board.reference in board.methods:
        sections.append(differences_section(board, board.reference))
    if "start" in board.methods and board.reference != "start":
        sections.append(differences_section(board, "start"))
    sections += [
        distance_section(board),
        secondary_section(board),
        costs_section(board),
        search_section(board),
        training_section(board),
        methods_section(board),
        protocols_section(board),
        failures_section(board),
    ]
    return {PAGE: "\n\n".join(section for section in sections if section) + "\n"} | files


def write_leaderboard(folder: Path) -> list[str]:
    """Write the leaderboard of ``results/<recipe>/<budget>``.

    Returns:
        names of its files.
    """
    files = render_pages(read_results(folder), card_sentences(folder))
    for name, text in files.items():
        write_text(folder / name, text)
    return list(files)


def stale_files(folder: Path) -> list[str]:
    """Files of a leaderboard that differ from what its results give."""
    return [
        name
        for name, text in render_pages(read_results(folder), card_sentences(folder)).items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
