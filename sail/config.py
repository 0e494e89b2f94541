"""Configuration of :class:`sail.SAILTrainer`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from trl import DPOConfig

from sail.losses import LossKind

ROUTES = ("dp", "pp", "pr")


@dataclass
class SAILConfig(DPOConfig):  # type: ignore[misc]
    """TRL's ``DPOConfig`` plus the knobs of SAIL (arXiv 2406.15567; spec 2.1 lists the published settings).

    Each example takes one route by a categorical draw: ``dp`` (dataset responses, self-label), ``pp`` (policy
    responses, self-label), ``pr`` (policy responses, label from ``preference``) or, with the remaining probability,
    ``off`` (the dataset's pair and label: plain DPO).
    """

    dp_share: float = field(default=0.0, metadata={"help": "Probability of the DP route (official code: r = 0.4)."})
    pp_share: float = field(default=0.0, metadata={"help": "Probability of the PP route (official code: p = 0.3)."})
    pr_share: float = field(default=0.0, metadata={"help": "Probability of the PR route (official code: g = 0.3)."})
    dp_coef: float = field(default=0.2, metadata={"help": "Added-gradient coefficient of DP (rho)."})
    pp_coef: float = field(default=0.2, metadata={"help": "Added-gradient coefficient of PP (pi)."})
    pr_coef: float = field(default=0.3, metadata={"help": "Added-gradient coefficient of PR (gamma)."})
    pair_loss: LossKind = field(default="bt", metadata={"help": "phi: bt, cdpo, hinge or ipo (spec 1.6)."})
    dp_labels: str = field(default="self", metadata={"help": "'self', or 'dataset' to keep the given label (control)."})
    baseline: str = field(default="loo", metadata={"help": "'loo' (leave one out; lagged for DP) or 'none'."})
    max_new_tokens: int = field(default=64, metadata={"help": "Longest sampled response, in tokens."})
    generation_batch_size: int = field(default=64, metadata={"help": "Responses sampled at once."})
    noise_seed: int | None = field(default=None, metadata={"help": "Seed of the keyed noise; `seed` if not given."})

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = {route: getattr(self, f"{route}_share") for route in ROUTES}
        if min(shares.values()) < 0 or sum(shares.values()) > 1:
            raise ValueError(f"the route shares must lie in [0, 1] and sum to at most 1; got {shares}")
        if self.baseline not in ("loo", "none"):
            raise ValueError(f"baseline must be 'loo' or 'none'; got {self.baseline!r}")
        if self.dp_labels not in ("self", "dataset"):
            raise ValueError(f"dp_labels must be 'self' or 'dataset'; got {self.dp_labels!r}")
        if self.loss_type != ["sigmoid"] or self.ld_alpha is not None or self.use_weighting:
            raise ValueError("loss_type, ld_alpha and use_weighting are DPOTrainer's: choose SAIL's loss by pair_loss")
        if self.f_divergence_type != "reverse_kl":
            raise ValueError("SAIL's implicit reward is that of the reverse KL: leave f_divergence_type as it is")
        if self.noise_seed is None:
            self.noise_seed = self.seed

    @property
    def shares(self) -> tuple[float, float, float]:
        """Probabilities of the routes dp, pp, pr, in this order."""
        return (self.dp_share, self.pp_share, self.pr_share)

    @property
    def coefs(self) -> tuple[float, float, float]:
        """Added-gradient coefficients of the routes dp, pp, pr, in this order."""
        return (self.dp_coef, self.pp_coef, self.pr_coef)


def cpu_arguments() -> dict[str, bool]:
    """TRL's defaults that are traps on a CPU, set right: no bf16, no checkpointing, NaNs shown."""
    accelerated = torch.cuda.is_available()
    return {"bf16": accelerated, "gradient_checkpointing": accelerated, "logging_nan_inf_filter": False}
