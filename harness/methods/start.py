"""``start``: the untrained control."""

from __future__ import annotations

from pathlib import Path

from harness.methods.base import Method, TrainContext


class Start(Method):
    """The start policy as it is. Every gain in the table is a gain over this row."""

    name = "start"
    summary = "the start policy, untrained (control)"
    trains = False

    def train(self, context: TrainContext) -> Path | None:
        """Nothing to do: the policy is the start policy."""
        return None
