"""The sentence of a leaderboard page on its judge's card: a link with the agreement, or how to make a card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.score.judge_cards import CardSection, read_card
from harness.score.results import Metric
from harness.store.json_files import digest

FOLDER = "judges"

INSIDE = ("studies", "local")
"""Results folders inside ``results`` that use its cards as well."""


def card_files(folder: Path) -> list[Path]:
    """The cards for the results in ``<results>/<recipe>/<budget>``: those in ``<results>/judges``, and for studies and
    a user's own comparisons those of ``results``. Of two cards of one judge it is the first of these."""
    root = folder.resolve().parent.parent
    roots = (root.parent, root) if root.name in INSIDE else (root,)
    files = {path.name: path for place in roots for path in (place / FOLDER).glob("*.json")}
    return [files[name] for name in sorted(files)]


def card_sentences(folder: Path) -> dict[str, str]:
    """For each judge with a card, the sentence that links it from a leaderboard in ``<results>/<recipe>/<budget>``."""
    sentences = {}
    for path in card_files(folder):
        card = read_card(path)
        page = path.with_suffix(".md")
        if card.sections and page.is_file():
            link = Path(os.path.relpath(page, folder.resolve())).as_posix()
            sentences[card.key] = (
                f"[Judge card]({link}): {_agreement(card.sections[0])}{_further_sets(len(card.sections) - 1)}."
            )
    return sentences


def missing_card_sentence(judge: dict[str, Any], model: str) -> str:
    """The sentence for a judge without a card.

    ``judge`` is its identity, a JSON record; ``model`` the start policy's name in recipes.
    """
    if judge["kind"] == "endpoint":
        address = "" if judge["endpoint"] == digest(None) else " --base-url URL"
        arguments = f"{judge['model']}{address}"
    else:
        arguments = "local" + ("" if model == "smollm2" else f" --model {'DIR' if model == 'custom' else model}")
    return f"No judge card has been measured: `sail-bench judge-card {arguments} --pairs FILE` makes one."


def _agreement(section: CardSection) -> str:
    agreement, first = section.metric("agreement"), section.metric("first_slot")
    return (
        f"agrees with the known preference in {_percent(agreement)} of {section.data['used']} pairs "
        f"(`{section.data['file']}`), and names the first slot in {_percent(first)} of single calls"
    )


def _percent(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "n/a"
    if metric.low is None or metric.high is None or metric.low == metric.high:
        return f"{metric.value:.0f}%"
    return f"{metric.value:.0f}% [{metric.low:.0f}, {metric.high:.0f}]"


def _further_sets(count: int) -> str:
    return f"; {count} more set{'s' * (count > 1)} of pairs on the card" if count else ""
