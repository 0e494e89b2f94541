"""RewardBench's sections (arXiv 2403.13787): subsets with their weights, and pairs that each holds.

A section's score is the mean of its subsets' accuracies, weighted by their pairs; ``math-prm`` has 447 and counts as
984, as much as the six code subsets together. The score is the mean of the four sections. Facts of
``rewardbench/constants.py`` in allenai/reward-bench.
"""

from __future__ import annotations

from collections.abc import Mapping

MATH, MATH_PAIRS = "math-prm", 447

SECTIONS: dict[str, dict[str, int]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 250,
        "xstest-should-respond": 154,
        "donotanswer": 136,
    },
    "Reasoning": {MATH: 984} | {f"hep-{language}": 164 for language in ("cpp", "go", "java", "js", "python", "rust")},
}
"""Weight of each subset, by section."""

WEIGHTS = {subset: weight for section in SECTIONS.values() for subset, weight in section.items()}

SECTION_OF = {subset: name for name, section in SECTIONS.items() for subset in section}

SIZES = WEIGHTS | {MATH: MATH_PAIRS}
"""Pairs of each subset in the official set."""

OFFICIAL_SIZE = sum(SIZES.values())


def is_official(subsets: Mapping[str, int]) -> bool:
    """Whether pairs counted by subset have an official score: all 23 subsets are there, and no other."""
    return set(subsets) == set(SIZES)


def set_label(subsets: Mapping[str, int], limit: int = 0) -> str:
    """What a set is, beside the official one.

    Args:
        subsets: pairs by subset.
        limit: how many of them are drawn (0: all).
    """
    count = sum(subsets.values())
    used = min(limit or count, count)
    drawn = ", drawn by subset" if used < count else ""
    if not set(subsets) <= set(SIZES):
        return f"own set, {used:,} of {count:,}{drawn}" if drawn else f"own set, {count:,} pairs"
    return "official set" if used == OFFICIAL_SIZE else f"{used:,} of {OFFICIAL_SIZE:,}{drawn}"
