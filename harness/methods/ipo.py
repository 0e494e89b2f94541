"""``ipo``: a squared loss on the margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.methods.base import MethodConfig, PairMethod

if TYPE_CHECKING:
    from harness.methods.base import Loss, Reward


class IPOConfig(MethodConfig):
    """``tau``: strength of the pull towards the start policy; the margin's target is 1 / (2 tau) nats a token."""

    tau: float = Field(default=0.5, gt=0)


class IPO(PairMethod):
    """Identity preference optimisation: the margin is drawn to 1 / (2 tau)."""

    name = "ipo"
    summary = "identity preference optimisation: the margin is drawn to 1 / (2 tau)"
    paper = "arXiv:2310.12036"
    published = "tau 0.1 to 1 on bandits; TRL and the official SAIL code average the log-ratio over tokens"
    grid = {"tau": (0.1, 0.5)}
    Config = IPOConfig
    config: IPOConfig

    def loss(self, beta: float) -> Loss:
        """``(h - 1 / (2 tau))^2`` with the length-averaged margin h, as in TRL."""
        from sail.losses import PairLoss

        ipo = PairLoss("ipo", self.config.tau)
        return lambda sides: ipo.phi(ipo.margin(sides))

    def rewards(self, beta: float) -> Reward:
        """``tau`` times the log-ratio to the start policy, a sum over tokens as in TRL."""
        from sail.losses import log_ratio_rewards

        return lambda sides: log_ratio_rewards(sides, self.config.tau)
