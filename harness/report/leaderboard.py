"""``LEADERBOARD.md`` and the files beside it, from the result files alone.

The same results give the same text byte by byte, and pictures of the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from harness.report.board import Board
from harness.report.costs import costs_section
from harness.report.distance import distance_section
from harness.report.figure_files import page_file, stale_pictures, write_pictures
from harness.report.figure_types import Figure
from harness.report.figures import COST, page_figures
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
from harness.report.ranking import ranking_of
from harness.report.recipe_file import made_by
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
    """File names and contents of a leaderboard, but for its pictures.

    Args:
        results: all runs of one recipe under one budget, at least one.
        cards: for each judge that has a card, the sentence that links it (:mod:`.judge_citation`).
        fits: those that have been made before.
    """
    board = Board(results, fits)
    return _texts(board, page_figures(board), cards, None)


def _texts(board: Board, figures: Sequence[Figure], cards: Mapping[str, str], folder: Path | None) -> dict[str, str]:
    """As :func:`render_pages`, of a board whose figures were made before and whose results lie in a folder."""
    ranking = ranking_of(board)
    summary = summary_of(board, ranking)
    by_subject, drawn = subjects_page(board), {figure.name for figure in figures}
    subjects = {SUBJECTS: by_subject} if by_subject else {}
    blocks: list[str | Details] = [
        heading(board),
        summary.text,
        main_table(board, ranking),
        legend(board, ranking),
        *warnings(board),
        f"![Score against cost]({page_file(COST)})" if COST in drawn else "",
        *_details(board, cards, drawn, folder, has_subjects=bool(subjects)),
    ]
    as_json = json.dumps(summary_json(board, ranking, summary), indent=1) + "\n"  # ASCII: it escapes what acts
    return {PAGE: page(blocks), SUMMARY: as_json} | subjects


def _details(
    board: Board, cards: Mapping[str, str], drawn: Collection[str], folder: Path | None, *, has_subjects: bool
) -> list[Details]:
    """What a reader opens. An empty one is left out.

    Args:
        board: all results of the page.
        cards: as :func:`render_pages` got them.
        drawn: names of the figures beside the page.
        folder: where the results lie, if anywhere.
        has_subjects: whether the page by subject is beside it.
    """
    subjects = f"\n\nScores by subject: [{SUBJECTS}]({SUBJECTS})." if has_subjects else ""
    return [
        Details("How this was measured", method_section(board, cards)),
        Details("Stale rows", older_rows_paragraph(board)),
        Details("All scores, with counts", scores_section(board) + subjects),
        Details("Scores under older protocols", older_scores_section(board)),
        Details("Differences, with intervals", differences_section(board)),
        Details("Distance from the start policy", distance_section(board)),
        Details("Further metrics and the judge's habits", secondary_section(board)),
        Details("Pictures", pictures_section(drawn)),
        Details("Cost", costs_section(board)),
        Details("Search", search_section(board)),
        Details("In training", training_section(board)),
        Details("Methods", methods_section(board)),
        Details("Protocols and environment", protocols_section(board, made_by(board.results, folder))),
        Details("Failed runs", failures_section(board)),
    ]


def write_leaderboard(folder: Path) -> list[str]:
    """Write the leaderboard of ``results/<recipe>/<budget>``. Fits that it needed are kept for the next time.

    Returns:
        names of its files.
    """
    fits = KeptFits(folder)
    board = Board(read_results(folder), fits)
    figures = page_figures(board)
    texts = _texts(board, figures, card_sentences(folder), folder)
    fits.save()
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*texts, *write_pictures(figures, folder)]


def stale_files(folder: Path) -> list[str]:
    """Files of a leaderboard that differ from what its results give, with every fit made anew: text in any byte,
    pictures in their numbers."""
    board = Board(read_results(folder))
    figures = page_figures(board)
    texts = _texts(board, figures, card_sentences(folder), folder)
    stale = [
        name
        for name, text in texts.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    return stale + stale_pictures(figures, folder)
