"""``orpo``: likelihood plus an odds-ratio penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.methods.base import MethodConfig, PairMethod

if TYPE_CHECKING:
    from harness.methods.base import Loss, Reward


class ORPOConfig(MethodConfig):
    """``weight``: of the odds-ratio loss (lambda in the paper, beta in TRL)."""

    weight: float = Field(default=0.1, gt=0)


class ORPO(PairMethod):
    """ORPO: likelihood of the chosen response plus an odds-ratio loss, no reference."""

    name = "orpo"
    summary = "ORPO: likelihood of the chosen response plus an odds-ratio loss, no reference"
    paper = "arXiv:2403.07691"
    published = "lambda 0.1, learning rate 5e-6 (TRL) to 8e-6, in place of a supervised stage"
    grid = {"weight": (0.1, 1.0)}
    reads_reference = False
    Config = ORPOConfig
    config: ORPOConfig

    def loss(self, beta: float) -> Loss:
        """:func:`harness.train.losses.odds_ratio`."""
        from harness.train.losses import odds_ratio

        return lambda sides: odds_ratio(sides, self.config.weight)

    def rewards(self, beta: float) -> Reward:
        """``weight`` times the mean log-probability of a token, as in TRL."""
        from sail.losses import token_mean_rewards

        return lambda sides: token_mean_rewards(sides, self.config.weight)
