"""``simpo``: length-averaged likelihood with a target margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.methods.base import MethodConfig, PairMethod

if TYPE_CHECKING:
    from harness.methods.base import Loss, Reward


class SimPOConfig(MethodConfig):
    """``beta``: scale of the reward (its own: the reward is per token). ``gamma_ratio``: target margin over beta."""

    beta: float = Field(default=2.5, gt=0)
    gamma_ratio: float = Field(default=0.5, ge=0)


class SimPO(PairMethod):
    """SimPO: length-averaged log-probability as reward, target margin, no reference."""

    name = "simpo"
    summary = "SimPO: length-averaged log-probability as reward, target margin, no reference"
    paper = "arXiv:2405.14734"
    published = "beta 2 to 10, gamma / beta 0 to 1, learning rate 3e-7 to 1e-6; Llama-3-Instruct 2.5, 0.55, 1e-6"
    grid = {"beta": (2.5, 10.0), "gamma_ratio": (0.3, 0.5)}
    reads_reference = False
    Config = SimPOConfig
    config: SimPOConfig

    def loss(self, beta: float) -> Loss:
        """``-log sigmoid(beta (mean lp_w - mean lp_l) - gamma)``."""
        from sail.losses import PairLoss

        simpo = PairLoss("simpo", self.config.beta, margin_gap=self.config.gamma_ratio * self.config.beta)
        return lambda sides: simpo.phi(simpo.margin(sides))

    def rewards(self, beta: float) -> Reward:
        """``beta`` times the mean log-probability of a token."""
        from sail.losses import token_mean_rewards

        return lambda sides: token_mean_rewards(sides, self.config.beta)
