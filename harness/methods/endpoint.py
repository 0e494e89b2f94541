"""A model behind an OpenAI-compatible endpoint as a row of the table: evaluated as all are, never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.methods.base import Method, MethodConfig, TrainContext
from harness.recipe.endpoint import PolicyEndpoint


class EndpointConfig(PolicyEndpoint, MethodConfig):
    """The fields of :class:`harness.recipe.endpoint.PolicyEndpoint`."""


class Remote(Method):
    """Row of a recipe's ``endpoints:``. It gives texts alone: benchmarks that need log-probabilities leave it out."""

    name = "endpoint"
    summary = "a model behind an OpenAI-compatible endpoint (untrained)"
    trains = False
    Config = EndpointConfig
    config: EndpointConfig

    def shown(self) -> dict[str, Any]:
        """The model and a hash of where it is: host names are not published."""
        thinking = self.config.thinking
        return self.config.identity() | ({} if thinking is None else {"thinking": thinking})

    def train(self, context: TrainContext) -> Path | None:
        """Nothing to do: the policy is elsewhere."""
        return None
