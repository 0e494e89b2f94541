"""SAIL-bench: which preference-optimisation method should I use, given what I can spend?

Importing this package turns the telemetry of dependencies off, unless the user's environment already says otherwise.
"""

from __future__ import annotations

import os

__version__ = "0.1.0"

for _name, _value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)
