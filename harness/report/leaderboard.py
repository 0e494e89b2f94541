"""``LEADERBOARD.md`` and the files beside it, from the result files alone. The same files give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from harness.report.board import Board
from harness.report.costs import costs_section
from harness.report.distance import distance_section
from harness.report.introduction import heading, method_section, pictures_section
from harness.report.judge_citation import card_sentences
from harness.report.main_table import legend, main_table
from harness.report.markdown import Details, page
from harness.report.method_sections import (
    failures_section,
    methods_section,
    protocols_section,
    search_section,
    training_section,
)
from harness.report.older_rows import older_rows_paragraph
from harness.report.pictures import COST, pictures
from harness.report.ranking import ranking_of
from harness.report.score_notes import warnings
from harness.report.score_sections import (
    differences_section,
    older_scores_section,
    scores_section,
    secondary_section,
)
from harness.report.subjects import FILE as SUBJECTS
from harness.report.subjects import subjects_page
from harness.report.summary import summary_json, summary_of
from harness.score.fits import KeptFits
from harness.score.results import RunResult, read_results
from harness.store.json_files import write_text

PAGE, SUMMARY = "LEADERBOARD.md", "summary.json"


def render_pages(
    results: Sequence[RunResult], cards: Mapping[str, str] = MappingProxyType({}), fits: KeptFits | None = None
) -> dict[str, str]:
    """File names and contents of a leaderboard.

    Args:
        results: all runs of one recipe under one budget, at least one.
        cards: for each judge that has a card, the sentence that links it (:mod:`.judge_citation`).
        fits: those that have been made before.
    """
    board = Board(results, fits)
    ranking = ranking_of(board)
    summary = summary_of(board, ranking)
    files = pictures(board, ranking)
    by_subject = subjects_page(board)
    if by_subject:
        files[SUBJECTS] = by_subject
    blocks: list[str | Details] = [
        heading(board),
        summary.text,
        main_table(board, ranking),
        legend(board, ranking),
        *warnings(board),
        f"![Score against cost]({COST})" if COST in files else "",
        *_details(board, cards, files),
    ]
    files[SUMMARY] = json.dumps(summary_json(board, ranking, summary), indent=1) + "\n"  # ASCII: it escapes what acts
    return {PAGE: page(blocks)} | files


def _details(board: Board, cards: Mapping[str, str], files: Mapping[str, str]) -> list[Details]:
    """What a reader opens. An empty one is left out."""
    subjects = f"\n\nScores by subject: [{SUBJECTS}]({SUBJECTS})." if SUBJECTS in files else ""
    return [
        Details("How this was measured", method_section(board, cards)),
        Details("Stale rows", older_rows_paragraph(board)),
        Details("All scores, with counts", scores_section(board) + subjects),
        Details("Scores under older protocols", older_scores_section(board)),
        Details("Differences, with intervals", differences_section(board)),
        Details("Distance from the start policy", distance_section(board)),
        Details("Further metrics and the judge's habits", secondary_section(board)),
        Details("Pictures", pictures_section(files)),
        Details("Cost", costs_section(board)),
        Details("Search", search_section(board)),
        Details("In training", training_section(board)),
        Details("Methods", methods_section(board)),
        Details("Protocols and environment", protocols_section(board)),
        Details("Failed runs", failures_section(board)),
    ]


def write_leaderboard(folder: Path) -> list[str]:
    """Write the leaderboard of ``results/<recipe>/<budget>``. Fits that it needed are kept for the next time.

    Returns:
        names of its files.
    """
    fits = KeptFits(folder)
    files = render_pages(read_results(folder), card_sentences(folder), fits)
    fits.save()
    for name, text in files.items():
        write_text(folder / name, text)
    return list(files)


def stale_files(folder: Path) -> list[str]:
    """Files of a leaderboard that differ from what its results give, with every fit made anew."""
    return [
        name
        for name, text in render_pages(read_results(folder), card_sentences(folder)).items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
