"""Data sets of the Hub at a pinned commit: whether one can be had."""

from __future__ import annotations

import os
from pathlib import Path

_SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def reachable(repository: str, revision: str) -> bool:
    """Whether the Hub may be asked for a data set, or its cache has it. No request is made."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if not any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in _SWITCHES):
        return True
    return (Path(HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision).is_dir()
