"""``sail-pr``, ``sail-pp``, ``sail-dp``: the three SAIL settings, by the thin :class:`sail.SAILTrainer`.

Shares and coefficients default to the official code's (spec 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from harness.methods.base import Method, MethodConfig, TrainContext

if TYPE_CHECKING:
    from sail.rollout import Pair, Preference

PAPER = "arXiv:2406.15567"


class SAILOptions(MethodConfig):
    """``share``: probability that an example takes the SAIL route. ``coefficient``: weight of the added gradient.

    ``estimator``: ``official`` reproduces the released code's form (wrong sign and scale), as a control.
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
    Config = SAILOptions

    def train(self, context: TrainContext) -> Path | None:
        """Train a mixture of offline DPO and this route under the surrogate of spec 1.5."""
        from harness.training import arguments, run_trainer
        from sail.config import SAILConfig
        from sail.trainer import SAILTrainer

        options = self.config
        assert isinstance(options, SAILOptions)
        shares: dict[str, Any] = {f"{self.route}_share": options.share}
        if options.share > 0:
            shares[f"{self.route}_coef"] = options.coefficient
        args = SAILConfig(
            **arguments(context),
            precompute_ref_log_probs=True,
            baseline=options.baseline,
            estimator=options.estimator,
            dp_labels=options.labels,
            max_new_tokens=context.max_new_tokens,
            **shares,
        )
        return run_trainer(context, SAILTrainer, args, preference=_preference(context))

    def samples_online(self) -> float:
        """The share of the route if it samples."""
        assert isinstance(self.config, SAILOptions)
        return self.config.share if self.route != "dp" else 0.0


def _preference(context: TrainContext) -> Preference:
    """Labels sampled pairs by the oracle: the higher score wins, equal scores are a tie."""

    def prefer(pairs: Sequence[Pair]) -> list[float]:
        rows = [context.prompts[context.pairs[p.example]["id"]] for p in pairs]
        texts = [[_decode(context, ids) for ids in (p.first, p.second)] for p in pairs]
        flat = context.oracle.score([r for r in rows for _ in (0, 1)], [t for both in texts for t in both])
        return [0.5 + 0.5 * ((a > b) - (a < b)) for a, b in zip(flat[::2], flat[1::2], strict=True)]

    return prefer


def _decode(context: TrainContext, ids: Sequence[int]) -> str:
    text: str = context.tokenizer.decode(list(ids), skip_special_tokens=True)
    return text.strip()


class PROptions(SAILOptions):
    """Official gamma: 0.3."""

    coefficient: float = Field(default=0.3, ge=0)


class DPOptions(SAILOptions):
    """Official r: 0.4."""

    share: float = Field(default=0.4, ge=0, le=1)


class SAILPR(SAIL):
    """Responses from the policy, labels from the oracle, score term T1."""

    name = "sail-pr"
    summary = "SAIL: policy responses, oracle labels (online RLHF with the score term)"
    route = "pr"
    Config = PROptions


class SAILPP(SAIL):
    """Responses and labels from the policy."""

    name = "sail-pp"
    summary = "SAIL: policy responses, self-labelled"
    route = "pp"


class SAILDP(SAIL):
    """Responses from the data set, labels from the policy."""

    name = "sail-dp"
    summary = "SAIL: data set responses, self-labelled"
    route = "dp"
    Config = DPOptions
