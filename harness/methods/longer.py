"""``longer``: the control that changes nothing but the prompt, which asks for a long answer."""

from __future__ import annotations

from pathlib import Path

from harness.methods.base import Method, TrainContext


class Longer(Method):
    """The start policy with a request for a longer answer. A judge or reward that it wins with measures length."""

    name = "longer"
    summary = "control: the start policy, asked for longer answers (untrained)"
    published = "a negative control; no paper"
    trains = False
    instruction = "Please give a long and detailed answer."

    def train(self, context: TrainContext) -> Path | None:
        """Nothing to do: the policy is the start policy."""
        return None
