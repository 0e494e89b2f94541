"""``dpo-shuffled-labels``: the control whose labels carry no information."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.methods.base import TrainContext
from harness.methods.dpo import DPO
from harness.store.row_files import RowView


class ShuffledLabels(DPO):
    """DPO on the same pairs, each swapped by a fair coin. What it gains was not learned from preferences."""

    name = "dpo-shuffled-labels"
    summary = "control: DPO on the same pairs with labels drawn by a coin"
    published = "a negative control; no paper"
    distributed = True

    def train(self, context: TrainContext) -> Path | None:
        """Train on the swapped pairs; the coin is keyed by seed and prompt."""
        from sail.noise import uniform

        def drawn(row: dict[str, Any]) -> dict[str, Any]:
            return swapped(row) if uniform((context.seed, row["id"], "coin")) < 0.5 else row

        return super().train(replace(context, pairs=RowView(context.pairs, change=drawn)))


def swapped(row: dict[str, Any]) -> dict[str, Any]:
    """The pair with chosen and rejected exchanged, in every column."""
    other = {"chosen": "rejected", "rejected": "chosen"}
    return {"_".join(other.get(part, part) for part in key.split("_")): value for key, value in row.items()}
