"""SAIL as a small library on TRL: pure losses, keyed noise, a sampler and a thin trainer.

``SAILTrainer`` extends :class:`trl.DPOTrainer` with self-improving alignment (arXiv 2406.15567): online RLHF as a
bilevel problem reduced to one surrogate loss. The heavy classes are imported on first use, so that reading the
configuration or the losses' documentation needs no torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sail.config import SAILConfig
    from sail.labels import TextPreference
    from sail.trainer import SAILTrainer

__all__ = ["SAILConfig", "SAILTrainer", "TextPreference"]

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL trainers ping home otherwise; the user's word wins

_HOMES = {"SAILConfig": "sail.config", "SAILTrainer": "sail.trainer", "TextPreference": "sail.labels"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sail' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
