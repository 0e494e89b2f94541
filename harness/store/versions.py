"""Versions of the behaviour behind each kind of stage: part of its key, and recorded in the results made from it.

A change of behaviour raises a version here (or that of a method, benchmark or oracle). Otherwise an old stage would be
taken for a new one, and an old result for a current one.
"""

from __future__ import annotations

from sail.types import SAMPLER_VERSION

START_VERSION, PAIRS_VERSION, IMPORTED_VERSION = 2, 1, 3
TRAIN_VERSION, TUNE_VERSION, SCORE_VERSION, VERSUS_VERSION = 5, 2, 3, 1
LOGPS_VERSION = 4
"""Of cached log-probabilities of given answers, and of the hidden states that policies share."""

VERSIONS = {
    "start": START_VERSION,
    "sampler": SAMPLER_VERSION,
    "pairs": PAIRS_VERSION,
    "imported pairs": IMPORTED_VERSION,
    "training": TRAIN_VERSION,
    "search": TUNE_VERSION,
    "scores": SCORE_VERSION,
    "oracle's verdicts": VERSUS_VERSION,
    "log-probabilities": LOGPS_VERSION,
}


def versions_of(*kinds: str) -> dict[str, int]:
    """The current versions of these kinds of stages."""
    return {kind: VERSIONS[kind] for kind in kinds}


def raised_since(recorded: dict[str, int]) -> list[str]:
    """Kinds whose behaviour changed after a result was made.

    Args:
        recorded: the versions in the result file; empty for a result older than the first record.

    Returns:
        the kinds, in a fixed order; all of them if nothing is recorded.
    """
    if not recorded:
        return list(VERSIONS)
    return [kind for kind, version in VERSIONS.items() if recorded.get(kind, version) != version]
