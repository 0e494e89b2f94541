"""``rdpo``: DPO made unbiased under flipped labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.methods.base import PairConfig, PairMethod

if TYPE_CHECKING:
    from harness.methods.base import Loss


class RDPOConfig(PairConfig):
    """``flip_rate``: share of labels that are flipped."""

    flip_rate: float = Field(default=0.1, ge=0, lt=0.5)


class RDPO(PairMethod):
    """Robust DPO: unbiased for clean labels under a known flip rate."""

    name = "rdpo"
    summary = "robust DPO: unbiased for clean labels under a known flip rate"
    paper = "arXiv:2403.00409"
    published = "flip rate known or tuned, 0.1 in their experiments; TRL: loss_type robust"
    grid = {"flip_rate": (0.1, 0.3)}
    Config = RDPOConfig
    config: RDPOConfig

    def loss(self, beta: float) -> Loss:
        """:func:`harness.train.losses.robust`."""
        from harness.train.losses import robust

        return lambda sides: robust(sides, beta, self.config.flip_rate)
