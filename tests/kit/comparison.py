"""What a comparison left, for tests that do part of it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TINY_METHODS = ("start", "dpo", "sail-pr", "sail-pp", "sail-dp")


def timeless_results(folder: Path, methods: Sequence[str] = TINY_METHODS) -> dict[str, dict[str, Any]]:
    """Result files by method, without what a clock or the operating system decides: seconds, peak memory, the hash
    over them, and how many runs worked side by side."""
    results = {}
    for method in methods:
        value = json.loads((folder / f"results/local/tiny/pairs-16/{method}/seed-0.json").read_text())
        value.pop("run_key")
        value["environment"].pop("workers")
        for name in ("ledger", "tuning_ledger"):
            value[name].pop("peak_memory_bytes")
            for phase in value[name]["phases"].values():
                phase.pop("seconds", None)
        for row in value["train_log"]:
            for name in [n for n in row if n.startswith("seconds/")]:
                row.pop(name)
        results[method] = value
    return results
