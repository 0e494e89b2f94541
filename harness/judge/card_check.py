"""Whether the figures of a judge's card follow from the verdicts stored with them: an edited value does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.judge.card_figures import figures
from harness.score.judge_cards import CardSection, JudgeCard, read_card
from harness.score.recheck import Mismatch, differing_fields
from harness.store.json_files import digest


def edited_card(path: Path) -> list[str]:
    """A sentence for each number of a card that does not follow from what is stored with it."""
    return [
        f"{path}: {wrong.key} is {wrong.stored}, but what the card stores with it gives {wrong.computed}: restore the "
        "file, or run 'sail-bench judge-card' again"
        for wrong in _of_card(read_card(path))
    ]


def _of_card(card: JudgeCard) -> Iterator[Mismatch]:
    if card.key != digest(card.judge):
        yield Mismatch("key", card.key, digest(card.judge))
    for section in card.sections:
        yield from _of_section(section)


def _of_section(section: CardSection) -> Iterator[Mismatch]:
    place = f"sections.{section.id}"
    own_id = digest([section.data["pairs"], section.protocol])
    if section.id != own_id:
        yield Mismatch(f"{place}.id", section.id, own_id)
    computed = {metric.name: metric for metric in figures(section.items)}
    if [m.name for m in section.metrics] != list(computed):
        yield Mismatch(f"{place}.metrics", ", ".join(m.name for m in section.metrics), ", ".join(computed))
        return
    for metric in section.metrics:
        yield from differing_fields(f"{place}.metrics.{metric.name}", metric, computed[metric.name])
