"""What a leaderboard says of its judge's card: the link and the agreement, or how to make one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.score.results import CardSection, Metric, read_card
from harness.store.json_files import digest

FOLDER = "judges"


def cited(folder: Path) -> dict[str, str]:
    """For each judge with a card, the sentence that links it from the leaderboard in ``<results>/<recipe>/<budget>``.

    Cards lie in ``<results>/judges``; studies (``results/studies``) share those of ``results``.
    """
    root = folder.resolve().parent.parent
    cards = (root.parent if root.name == "studies" else root) / FOLDER
    found = {}
    for path in sorted(cards.glob("*.json")):
        card = read_card(path)
        page = path.with_suffix(".md")
        if card.sections and page.is_file():
            link = Path(os.path.relpath(page, folder.resolve())).as_posix()
            found[card.key] = f"[Judge card]({link}): {_said(card.sections[0])}{_more(len(card.sections) - 1)}."
    return found


def missing(judge: dict[str, Any], model: str) -> str:
    """The sentence for a judge without a card. ``model``: the start policy, as recipes name it."""
    if judge["kind"] == "endpoint":
        address = "" if judge["endpoint"] == digest(None) else " --base-url URL"
        who = f"{judge['model']}{address}"
    else:
        who = "local" + ("" if model == "smollm2" else f" --model {'DIR' if model == 'custom' else model}")
    return f"No judge card has been measured: `sail-bench judge-card {who} --pairs FILE` makes one."


def _said(section: CardSection) -> str:
    agreement, first = section.metric("agreement"), section.metric("first_slot")
    return (
        f"agrees with the known preference in {_percent(agreement)} of {section.data['used']} pairs "
        f"(`{section.data['file']}`), and names the first slot in {_percent(first)} of single calls"
    )


def _percent(found: Metric | None) -> str:
    if found is None or found.value is None:
        return "n/a"
    if found.low is None or found.high is None or found.low == found.high:
        return f"{found.value:.0f}%"
    return f"{found.value:.0f}% [{found.low:.0f}, {found.high:.0f}]"


def _more(count: int) -> str:
    return f"; {count} more set{'s' * (count > 1)} of pairs on the card" if count else ""
