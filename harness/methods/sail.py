"""What the SAIL methods share: the thin :class:`sail.SAILTrainer`, its options, and the oracle as its preference."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.errors import UserError
from harness.methods.base import Method, MethodConfig, Spending, TrainContext
from harness.train.labels import preference

PAPER = "arXiv:2406.15567"

PUBLISHED = "beta 0.1, learning rate 1e-5, 32 pairs a step, temperature 0.9 (official code)"


class SAILOptions(MethodConfig):
    """Options of the SAIL methods.

    Attributes:
        share: probability that an example takes the SAIL route.
        coefficient: weight of the added gradient.
        baseline: ``loo`` (leave one out) or ``none``.
        labels: ``dataset`` keeps the given labels on the DP route, as a control.
        estimator: ``official`` reproduces the released code's form (wrong sign and scale), as a control.
    """

    share: float = Field(default=0.3, ge=0, le=1)
    coefficient: float = Field(default=0.2, ge=0)
    baseline: Literal["loo", "none"] = "loo"
    labels: Literal["self", "dataset"] = "self"
    estimator: Literal["score", "rao-blackwell", "official"] = "score"


class SAIL(Method):
    """Self-improving alignment with one route beside offline DPO."""

    route: ClassVar[str]
    paper = PAPER
    published = PUBLISHED
    distributed = True
    Config = SAILOptions
    config: SAILOptions
    grid = {"coefficient": (0.1, 0.3)}

    def __init__(self, config: MethodConfig | None = None) -> None:
        super().__init__(config)
        if self.config.labels == "dataset" and self.route != "dp":
            raise UserError(
                f"{self.name}: labels: dataset is for sail-dp, whose responses are the data set's: leave it out"
            )

    def train(self, context: TrainContext) -> Path | None:
        """Train a mixture of offline DPO and this route under the surrogate of docs/sail.md."""
        from harness.methods.base import arguments, run_trainer
        from sail import SAILConfig, SAILTrainer

        options = self.config
        shares: dict[str, Any] = {f"{self.route}_share": options.share}
        if options.share > 0:
            shares[f"{self.route}_coef"] = options.coefficient
            shares["dp_labels"] = options.labels
        settings = arguments(context) | self.extra_settings(context)
        args = SAILConfig(
            **settings,
            precompute_ref_log_probs=True,
            baseline=options.baseline,
            estimator=options.estimator,
            max_new_tokens=context.max_new_tokens,
            generation_batch_size=context.generation_batch_size,
            **shares,
        )
        online = options.share > 0 and self.route != "dp"  # stored pairs have their reference log-probabilities
        needs_reference = self.reads_reference and online
        labels: dict[str, Any] = {"preference": preference(context)} if self.route == "pr" and options.share > 0 else {}
        return run_trainer(context, SAILTrainer, args, needs_reference=needs_reference, **labels)

    def extra_settings(self, context: TrainContext) -> dict[str, Any]:
        """Further settings of :class:`sail.SAILConfig`, for a subclass to give."""
        return {}

    def spending(self) -> Spending:
        """The route's share samples two responses, and refers to the start policy for them if the loss reads it."""
        online = self.config.share if self.route != "dp" else 0.0
        labelled = 2 * online if self.route == "pr" else 0.0
        reference = 2 * online if self.reads_reference else 0.0
        return Spending(stored=1 - online, sampled=2 * online, labelled=labelled, reference=reference)
