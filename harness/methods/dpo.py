"""``dpo``: loss and step of TRL's own DPOTrainer."""

from __future__ import annotations

from pathlib import Path

from harness.methods.base import Method, PairConfig, TrainContext


class DPO(Method):
    """Direct Preference Optimization (arXiv 2305.18290), trained by TRL's DPOTrainer on the stored token ids."""

    name = "dpo"
    summary = "Direct Preference Optimization, by TRL's DPOTrainer"
    paper = "arXiv:2305.18290"
    published = "beta 0.1 (0.5 for TL;DR), learning rate 1e-6, 64 pairs a step"
    Config = PairConfig
    distributed = True
    config: PairConfig
    grid = {"beta": (0.1, 0.3)}

    def train(self, context: TrainContext) -> Path | None:
        """Train with the stock loss and step; only tokenisation is bypassed."""
        from trl import DPOConfig

        from harness.methods.base import arguments, run_trainer
        from sail.dpo import TokenisedDPOTrainer

        beta = self.config.beta or context.train.beta
        args = DPOConfig(**(arguments(context) | {"beta": beta}), precompute_ref_log_probs=True)
        return run_trainer(context, TokenisedDPOTrainer, args, needs_reference=False)
