"""Experiment trackers that a comparison reports to, under the names that TRL's ``report_to`` has for them."""

from __future__ import annotations

from typing import Any

from harness.errors import unknown

TRACKERS = ("trackio", "wandb", "tensorboard")
NO_TRACKER = "none"


def tracker_names(value: Any) -> list[str]:
    """Names of trackers, each once, from a text (separated by commas) or a list; ``none`` stands for none of them.

    Raises:
        ValueError: a name is unknown, or ``none`` stands beside others.
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{value!r} is neither a name nor a list of names: take from {', '.join(TRACKERS)}")
    names = list(dict.fromkeys(name for part in parts if (name := part.strip())))
    for name in names:
        if name not in (*TRACKERS, NO_TRACKER):
            raise ValueError(str(unknown("tracker", name, (*TRACKERS, NO_TRACKER))))
    if NO_TRACKER in names and len(names) > 1:
        raise ValueError(f"{NO_TRACKER} stands beside other trackers: leave it out, or leave them out")
    return [] if names == [NO_TRACKER] else names
