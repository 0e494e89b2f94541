"""Whether a set of questions is exactly the official one, by a hash of the sorted ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from harness.score.bradley_terry import Version
from harness.store.json_files import digest

OFFICIAL = "official set"


class OfficialIds(NamedTuple):
    """Number of the questions, and :func:`digest` of their sorted ids."""

    size: int
    hash: str


OFFICIAL_IDS: dict[tuple[Version, str | None], OfficialIds] = {
    ("v0.1", None): OfficialIds(500, "90c6a47fbb7657fc"),
    ("v2.0", None): OfficialIds(750, "5d3226599bf48fec"),
    ("v2.0", "hard_prompt"): OfficialIds(500, "bc6a2c1fdb54c41c"),
    ("v2.0", "creative_writing"): OfficialIds(250, "f73afd1f6a09e0fc"),
}
"""By release and category (None: all): ``data/arena-hard-v*/question.jsonl`` of lmarena/arena-hard-auto at 196f6b82."""


def set_label(questions: Iterable[str], version: Version, category: str | None = None) -> str:
    """What a set of questions is.

    Args:
        questions: their ids, in any order.
        version: of Arena-Hard.
        category: of v2.0's prompts; None for all.
    """
    ids = sorted(questions)
    official = OFFICIAL_IDS.get((version, category if version == "v2.0" else None))
    if official is not None and digest(ids) == official.hash:
        return OFFICIAL
    return f"{len(ids):,} questions, not the official set" + (f" of {official.size}" if official else "")
