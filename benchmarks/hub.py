"""Whether the Hub may be asked, and whether its cache has a data set at a commit."""

from __future__ import annotations

import os
from pathlib import Path

_SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def offline() -> bool:
    """Whether the environment switches the Hub off."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in _SWITCHES)


def reachable(repository: str, revision: str) -> bool:
    """Whether the Hub may be asked for a data set, or its cache has it. No request is made."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if not offline():
        return True
    return (Path(HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision).is_dir()
