"""``cdpo``: DPO with label smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.methods.base import PairConfig, PairMethod

if TYPE_CHECKING:
    from harness.methods.base import Loss


class CDPOConfig(PairConfig):
    """``epsilon``: probability that a label is wrong."""

    epsilon: float = Field(default=0.1, gt=0, lt=0.5)


class CDPO(PairMethod):
    """Conservative DPO: labels smoothed by epsilon."""

    name = "cdpo"
    summary = "conservative DPO: labels smoothed by epsilon"
    paper = "https://ericmitchell.ai/cdpo.pdf"
    published = "epsilon in (0, 0.5): the share of labels thought wrong"
    grid = {"epsilon": (0.1, 0.3)}
    Config = CDPOConfig
    config: CDPOConfig

    def loss(self, beta: float) -> Loss:
        """``-(1 - eps) log sigmoid(u) - eps log sigmoid(-u)``."""
        from sail.losses import PairLoss

        bt, eps = PairLoss("bt", beta), self.config.epsilon
        return lambda sides: (1 - eps) * bt.phi(bt.margin(sides)) + eps * bt.phi(-bt.margin(sides))
