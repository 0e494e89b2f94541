"""``kto``: desirable and undesirable responses, by prospect theory."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from harness.methods.base import Method, PairConfig, Spending, TrainContext


class KTOConfig(PairConfig):
    """``desirable``, ``undesirable``: weights of the two kinds of rows."""

    desirable: float = Field(default=1.0, gt=0)
    undesirable: float = Field(default=1.0, gt=0)


class KTO(Method):
    """Kahneman-Tversky optimisation. A pair is two rows: the chosen one desirable, the rejected one undesirable."""

    name = "kto"
    summary = "KTO: chosen responses as desirable, rejected as undesirable, against a KL reference point"
    paper = "arXiv:2402.01306"
    published = "beta 0.1, weights 1 and 1 for balanced data, learning rate 5e-7, batches of at least 8 rows"
    grid = {"beta": (0.1, 0.5)}
    Config = KTOConfig
    config: KTOConfig

    def spending(self) -> Spending:
        """Its reference point is a forward of the policy and one of the start policy on both rows."""
        return Spending(reference=4)

    def train(self, context: TrainContext) -> Path | None:
        """Train on the stored pairs; the reference point costs one more forward of policy and reference a batch."""
        from trl import DPOConfig

        from harness.methods.base import arguments, run_trainer
        from harness.train.pair_trainers import PairKTOTrainer

        args = DPOConfig(**arguments(context), precompute_ref_log_probs=True)
        return run_trainer(
            context,
            PairKTOTrainer,
            args,
            beta=self.config.beta or context.train.beta,
            desirable=self.config.desirable,
            undesirable=self.config.undesirable,
        )
