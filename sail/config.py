"""Configuration of :class:`sail.SAILTrainer`."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import torch
from trl import DPOConfig

from sail.losses import Estimator, LossKind

ROUTES = ("dp", "pp", "pr")
ESTIMATORS = ("score", "rao-blackwell", "official")
OFFICIAL_COEFS = (0.2, 0.2, 0.3)


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
    dp_coef: float | None = field(default=None, metadata={"help": "Added-gradient coefficient of DP (rho): 0.2."})
    pp_coef: float | None = field(default=None, metadata={"help": "Added-gradient coefficient of PP (pi): 0.2."})
    pr_coef: float | None = field(default=None, metadata={"help": "Added-gradient coefficient of PR (gamma): 0.3."})
    pair_loss: LossKind = field(default="bt", metadata={"help": "phi: bt, cdpo, hinge, ipo or simpo (spec 1.6)."})
    simpo_gamma: float = field(default=0.0, metadata={"help": "SimPO's target margin gamma (not divided by beta)."})
    estimator: Estimator = field(
        default="score", metadata={"help": "'score', 'rao-blackwell' or 'official' (control)."}
    )
    labels: str = field(
        default="hard", metadata={"help": "PR labels from the preference p: 'hard', 'sampled', 'soft'."}
    )
    kl_penalty: float = field(
        default=0.0, metadata={"help": "Weight of the reverse KL to the reference (true gradient)."}
    )
    u_penalty: float = field(default=0.0, metadata={"help": "Weight of E|u| on all routes but the offline one."})
    flip_rate: float = field(default=0.0, metadata={"help": "Share of given and oracle labels flipped (noise study)."})
    dp_labels: str = field(default="self", metadata={"help": "'self', or 'dataset' to keep the given label (control)."})
    baseline: str = field(default="loo", metadata={"help": "'loo' (leave one out; lagged for DP) or 'none'."})
    num_samples: int = field(
        default=2, metadata={"help": "Responses sampled a prompt; phi is averaged over all pairs."}
    )
    start_generator: float = field(default=0.0, metadata={"help": "Share of online pairs sampled from the reference."})
    lagged_generator: float = field(default=0.0, metadata={"help": "Share of online pairs sampled from older weights."})
    lag_steps: int = field(default=10, metadata={"help": "Steps between copies of the weights for lagged_generator."})
    other_generator: float = field(
        default=0.0, metadata={"help": "Share sampled from the trainer's `generator` model."}
    )
    curriculum: str = field(
        default="none", metadata={"help": "'wide-to-narrow' or 'narrow-to-wide' in the data's `strength` column."}
    )
    min_strength: float = field(
        default=0.0, metadata={"help": "Drop pairs whose |strength| is below this (near-ties)."}
    )
    label_fraction: float = field(
        default=1.0, metadata={"help": "Share of examples whose given label may be used; the rest go online or to DP."}
    )
    max_new_tokens: int = field(default=64, metadata={"help": "Longest sampled response, in tokens."})
    temperature: float = field(
        default=1.0, metadata={"help": "Of the sampled responses; other than 1 biases the score term."}
    )
    generation_batch_size: int = field(default=64, metadata={"help": "Responses sampled at once."})
    term_norms_every: int = field(
        default=0, metadata={"help": "Log the gradient norms of T1, T2 and T3 every k steps; 0 for never."}
    )
    noise_seed: int | None = field(default=None, metadata={"help": "Seed of the keyed noise; `seed` if not given."})
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "Weight of each of the trainer's `reward_funcs`; 1 if not given."}
    )
    bf16: bool | None = field(
        default=None, metadata={"help": "As in TRL; if not given, on with an accelerator (without fp16), off without."}
    )
    gradient_checkpointing: bool | None = field(
        default=None, metadata={"help": "As in TRL; if not given, on with an accelerator and off without."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Hide losses that are not finite (transformers' default; here they show)."}
    )

    def __post_init__(self) -> None:
        accelerated = has_accelerator() and not self.use_cpu
        if self.gradient_checkpointing is None:
            self.gradient_checkpointing = accelerated
        if self.bf16 is None and not accelerated:
            self.bf16 = False
        super().__post_init__()
        self._check_routes()
        self._check_values()
        if self.curriculum != "none":
            self.train_sampling_strategy = "sequential"
        if self.noise_seed is None:
            self.noise_seed = self.seed

    def _check_routes(self) -> None:
        """Shares, coefficients, and what would bias or stop learning on the chosen routes."""
        shares = {route: getattr(self, f"{route}_share") for route in ROUTES}
        if min(shares.values()) < 0 or sum(shares.values()) > 1:
            raise ValueError(f"the route shares must lie in [0, 1] and sum to at most 1; got {shares}")
        if self.pair_loss == "cdpo" and self.dp_share > 0 and self.label_smoothing >= 0.25:
            raise ValueError(
                f"label_smoothing={self.label_smoothing} leaves SAIL-DP no stable margin but 0: choose less than 0.25"
            )
        if self.label_smoothing and self.pair_loss != "cdpo":
            raise ValueError(f"label_smoothing={self.label_smoothing} is read by pair_loss='cdpo' only: set that too")
        for route in ROUTES:
            if getattr(self, f"{route}_coef") and not shares[route]:
                raise ValueError(f"{route}_coef has no effect without examples on its route: set {route}_share > 0")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive; got {self.temperature}")
        if self.temperature != 1 and self.scores_responses:
            warnings.warn(
                f"temperature={self.temperature} biases the score term, whose gradient is that of sampling at 1: set "
                "temperature=1, or the coefficients of the online routes and kl_penalty to 0",
                stacklevel=3,
            )
        if sum(self.shares) > 1 - 1e-9 and not self.pr_share:
            warnings.warn(
                "without an offline or PR share the start policy is a stationary point of DP and PP: nothing will be "
                "learned; leave some probability to the offline route",
                stacklevel=3,
            )

    def _check_values(self) -> None:
        """Options that stand alone, and DPOTrainer's that have no meaning here."""
        if self.num_samples < 2:
            raise ValueError(f"num_samples must be at least 2; got {self.num_samples}")
        if self.curriculum not in ("none", "wide-to-narrow", "narrow-to-wide"):
            raise ValueError(f"curriculum must be none, wide-to-narrow or narrow-to-wide; got {self.curriculum!r}")
        if not 0 <= self.flip_rate < 0.5:
            raise ValueError(f"flip_rate must lie in [0, 0.5); got {self.flip_rate}")
        for name, allowed in (("estimator", ESTIMATORS), ("labels", ("hard", "sampled", "soft"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        if self.baseline not in ("loo", "none"):
            raise ValueError(f"baseline must be 'loo' or 'none'; got {self.baseline!r}")
        if self.dp_labels not in ("self", "dataset"):
            raise ValueError(f"dp_labels must be 'self' or 'dataset'; got {self.dp_labels!r}")
        if self.loss_type != ["sigmoid"] or self.ld_alpha is not None or self.use_weighting:
            raise ValueError("loss_type, ld_alpha and use_weighting are DPOTrainer's: choose SAIL's loss by pair_loss")
        if self.f_divergence_type != "reverse_kl":
            raise ValueError("SAIL's implicit reward is that of the reverse KL: leave f_divergence_type as it is")

    @property
    def key_seed(self) -> int:
        """The seed in the key of every draw."""
        return int(self.noise_seed or 0)

    @property
    def pairs_per_prompt(self) -> int:
        """Pairs that the samples of one prompt make: K over 2."""
        return math.comb(self.num_samples, 2)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Probabilities of the routes dp, pp, pr, in this order."""
        return (self.dp_share, self.pp_share, self.pr_share)

    @property
    def generators(self) -> tuple[float, float, float]:
        """Shares of the generators start, lagged and other; the current policy takes the rest."""
        return (self.start_generator, self.lagged_generator, self.other_generator)

    @property
    def coefs(self) -> tuple[float, float, float]:
        """Added-gradient coefficients of the routes dp, pp, pr, in this order; the official code's if not given."""
        configured = (self.dp_coef, self.pp_coef, self.pr_coef)
        dp, pp, pr = (default if c is None else c for c, default in zip(configured, OFFICIAL_COEFS, strict=True))
        return (dp, pp, pr)

    @property
    def scores_responses(self) -> bool:
        """Whether some gradient goes through the sampling law: only then must the temperature be 1."""
        online = (self.pp_share > 0 and self.coefs[1] > 0) or (self.pr_share > 0 and self.coefs[2] > 0)
        return online or (self.kl_penalty > 0 and self.pp_share + self.pr_share > 0)


def has_accelerator() -> bool:
    """Whether torch sees a device beside the CPU."""
    return torch.accelerator.is_available()


def cpu_arguments() -> dict[str, bool]:
    """Arguments of TRL's ``DPOConfig`` in place of defaults that do harm on a CPU: no bf16, no checkpointing, NaN
    losses shown. :class:`SAILConfig` has them as its own defaults."""
    accelerated = has_accelerator()
    return {"bf16": accelerated, "gradient_checkpointing": accelerated, "logging_nan_inf_filter": False}
