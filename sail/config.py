"""Configuration of :class:`sail.SAILTrainer`."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import torch
from trl import DPOConfig

from sail.checks import check_idle, check_routes, check_values, warn_of_surprises
from sail.losses import Estimator, LossKind

OFFICIAL_COEFS = (0.2, 0.2, 0.3)


@dataclass
class SAILConfig(DPOConfig):  # type: ignore[misc]
    """TRL's ``DPOConfig`` plus the knobs of SAIL (arXiv 2406.15567; docs/gpu.md has the published settings).

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
    pair_loss: LossKind = field(default="bt", metadata={"help": "phi: bt, cdpo, hinge, ipo or simpo."})
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
    share_prompts: bool = field(
        default=True, metadata={"help": "Compute the prompt of a pair once, where that changes nothing but the time."}
    )
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
        check_values(self)
        check_idle(self, _defaults())
        check_routes(self)
        warn_of_surprises(self)
        if self.curriculum != "none":
            self.train_sampling_strategy = "sequential"
        if self.noise_seed is None:
            self.noise_seed = self.seed

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
        return online or (self.kl_penalty + self.u_penalty > 0 and self.pp_share + self.pr_share > 0)


def _defaults() -> dict[str, Any]:
    """The default of every option that has one."""
    plain = {f.name: f.default for f in fields(SAILConfig) if f.default is not MISSING}
    return plain | {f.name: f.default_factory() for f in fields(SAILConfig) if f.default_factory is not MISSING}


def has_accelerator() -> bool:
    """Whether torch sees a device beside the CPU."""
    return torch.accelerator.is_available()


def cpu_arguments() -> dict[str, bool]:
    """Arguments of TRL's ``DPOConfig`` in place of defaults that do harm on a CPU: no bf16, no checkpointing, NaN
    losses shown. :class:`SAILConfig` has them as its own defaults."""
    accelerated = has_accelerator()
    return {"bf16": accelerated, "gradient_checkpointing": accelerated, "logging_nan_inf_filter": False}
