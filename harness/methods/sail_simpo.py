"""``sail-simpo``: SAIL-PR with SimPO's reward."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from harness.methods.base import TrainContext
from harness.methods.sail import SAIL, SAILOptions


class SAILSimPOOptions(SAILOptions):
    """SAIL-PR's share and coefficient with SimPO's settings.

    ``beta``: scale of the reward, which is an average over tokens. ``gamma_ratio``: target margin over beta.
    """

    beta: float = Field(default=2.5, gt=0)
    gamma_ratio: float = Field(default=0.5, ge=0)
    coefficient: float = Field(default=0.3, ge=0)


class SAILSimPO(SAIL):
    """The score term with a reward that has no reference. A heuristic: SimPO's reward solves no KL-regularised lower
    level."""

    name = "sail-simpo"
    summary = "SAIL-PR with SimPO's length-averaged, reference-free reward (a heuristic)"
    published = "promised by SAIL's authors, never published; SimPO's beta 2.5, gamma / beta 0.55"
    route = "pr"
    reads_reference = False
    Config = SAILSimPOOptions
    config: SAILSimPOOptions

    def extra_settings(self, context: TrainContext) -> dict[str, Any]:
        """SimPO's loss with its own beta."""
        beta = self.config.beta
        return {"pair_loss": "simpo", "beta": beta, "simpo_gamma": self.config.gamma_ratio * beta}
