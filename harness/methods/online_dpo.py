"""``online-dpo``: every pair sampled from the policy and labelled by the oracle, no score term."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from harness.methods.base import Method, PairConfig, Spending, TrainContext


class OnlineDPOConfig(PairConfig):
    """``temperature``: of sampling (0.9 in the paper; 1 is the policy's own law)."""

    temperature: float = Field(default=1.0, gt=0)


class OnlineDPO(Method):
    """Online DPO (OAIF): DPO's loss on fresh pairs of the current policy. SAIL-PR with share 1 and coefficient 0."""

    name = "online-dpo"
    summary = "online DPO: fresh pairs from the policy each step, oracle labels, no score term"
    paper = "arXiv:2402.04792"
    published = "beta 0.1, temperature 0.9, learning rate 5e-7 (TRL: 5e-7, 64 new tokens)"
    grid = {"beta": (0.1, 0.3)}
    Config = OnlineDPOConfig
    distributed = True
    config: OnlineDPOConfig

    def train(self, context: TrainContext) -> Path | None:
        """Train on pairs sampled in each step."""
        from harness.methods.base import arguments, run_trainer
        from harness.train.labels import preference
        from sail import SAILConfig, SAILTrainer

        settings: dict[str, Any] = arguments(context) | {"beta": self.config.beta or context.train.beta}
        args = SAILConfig(
            **settings,
            pr_share=1.0,
            pr_coef=0.0,
            temperature=self.config.temperature,
            max_new_tokens=context.max_new_tokens,
            generation_batch_size=context.generation_batch_size,
        )
        return run_trainer(context, SAILTrainer, args, preference=preference(context))

    def spending(self) -> Spending:
        """Both responses of each pair are sampled and labelled."""
        return Spending(stored=0, sampled=2, labelled=2, reference=2)
