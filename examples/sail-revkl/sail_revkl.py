"""SAIL with a reverse-KL penalty (arXiv 2606.31524), as a plugin of SAIL-bench."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from harness.methods.base import Method, MethodConfig, Spending, TrainContext


class RevKLConfig(MethodConfig):
    """Options that a recipe may set.

    Attributes:
        share: of examples whose responses the policy samples.
        coefficient: of SAIL's score term.
        penalty: weight of KL(policy || start), in nats a response.
    """

    share: float = Field(default=0.3, gt=0, le=1)
    coefficient: float = Field(default=0.3, ge=0)
    penalty: float = Field(default=0.05, ge=0)


class SAILRevKL(Method):
    """SAIL-PR that pays for leaving the start policy. The KL is over fresh responses of the current policy, with the
    score-function gradient; a leave-one-out mean over the step is its baseline."""

    name = "sail-revkl"
    summary = "SAIL-PR with a reverse-KL penalty to the start policy"
    paper = "arXiv:2606.31524"
    published = "a penalty on tokens of offline responses; its weight was not found"
    Config = RevKLConfig
    config: RevKLConfig

    def train(self, context: TrainContext) -> Path | None:
        """Train on a mixture of stored pairs and pairs sampled in each step, labelled by the recipe's oracle."""
        from harness.methods.base import arguments, run_trainer
        from harness.methods.sail import preference
        from sail import SAILConfig, SAILTrainer

        args = SAILConfig(
            **arguments(context),
            precompute_ref_log_probs=True,
            pr_share=self.config.share,
            pr_coef=self.config.coefficient,
            kl_penalty=self.config.penalty,
            max_new_tokens=context.max_new_tokens,
        )
        return run_trainer(context, SAILTrainer, args, preference=preference(context))

    def spending(self) -> Spending:
        """The share samples and labels two responses a pair (for predictions of cost)."""
        online = self.config.share
        return Spending(stored=1 - online, sampled=2 * online, labelled=2 * online, reference=2 * online)
