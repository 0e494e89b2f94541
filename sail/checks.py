"""What a :class:`sail.SAILConfig` must satisfy. Each check raises a ValueError of one sentence with the fix, or warns.

Nothing is ignored silently: an option of TRL's ``DPOConfig`` is used, refused or warned about (the tables here and in
``tests/pure/test_config.py``), and so is an option of SAIL's that another one makes idle.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple, get_args

from sail.losses import Estimator, LossKind

ROUTES = ("dp", "pp", "pr")
GENERATORS = ("start_generator", "lagged_generator", "other_generator")
STABLE_SMOOTHING = 0.25
"""From this label smoothing on, 0 is the only stable margin of self-labelled pairs: ``(1 - 2 eps) u = 2 eps
sinh(u)`` has no other solution (for PP, whose responses move too, by descent of the exact objective in
``tests/pure/test_losses.py``)."""

CHOICES: dict[str, tuple[str, ...]] = {
    "pair_loss": get_args(LossKind),
    "estimator": get_args(Estimator),
    "labels": ("hard", "sampled", "soft"),
    "dp_labels": ("self", "dataset"),
    "baseline": ("loo", "none"),
    "curriculum": ("none", "wide-to-narrow", "narrow-to-wide"),
}


class Range(NamedTuple):
    """What a number must be: a test (False for NaN) and the same in words."""

    holds: Callable[[Any], bool]
    words: str


POSITIVE = Range(lambda v: 0 < v < math.inf, "positive")
NOT_NEGATIVE = Range(lambda v: 0 <= v < math.inf, "at least 0")
SHARE = Range(lambda v: 0 <= v <= 1, "in [0, 1]")
RATE = Range(lambda v: 0 <= v < 0.5, "in [0, 0.5)")


def at_least(low: int) -> Range:
    """Whole numbers from ``low`` on."""
    return Range(lambda v: isinstance(v, Integral) and int(v) >= low, f"a whole number of at least {low}")


RANGES: dict[str, Range] = {
    **{f"{route}_share": SHARE for route in ROUTES},
    **{f"{route}_coef": NOT_NEGATIVE for route in ROUTES},
    **dict.fromkeys(GENERATORS, SHARE),
    **dict.fromkeys(("beta", "temperature"), POSITIVE),
    **dict.fromkeys(("simpo_gamma", "kl_penalty", "u_penalty", "min_strength"), NOT_NEGATIVE),
    **dict.fromkeys(("flip_rate", "label_smoothing"), RATE),
    "label_fraction": SHARE,
    "num_samples": at_least(2),
    **dict.fromkeys(("max_new_tokens", "generation_batch_size", "lag_steps"), at_least(1)),
    "term_norms_every": at_least(0),
    "noise_seed": Range(lambda v: isinstance(v, Integral), "a whole number"),
}

MAY_BE_NONE = (*(f"{route}_coef" for route in ROUTES), "noise_seed")

REFUSED: dict[str, str] = {
    "loss_type": "SAIL's loss is chosen by pair_loss",
    "loss_weights": "SAIL has one loss, chosen by pair_loss",
    "ld_alpha": "SAIL's loss is chosen by pair_loss",
    "use_weighting": "SAIL's loss is chosen by pair_loss",
    "discopop_tau": "SAIL's loss is chosen by pair_loss",
    "f_divergence_type": "SAIL's implicit reward is that of the reverse KL",
    "f_alpha_divergence_coef": "SAIL's implicit reward is that of the reverse KL",
    "truncation_mode": "from the other end, the responses of a pair could lose different parts of their prompt",
    "padding_free": "TRL has switched it off",
    "label_smoothing_factor": "SAIL smooths labels by label_smoothing, with pair_loss='cdpo'",
}
"""Options of TRL's or transformers' that must keep their default, and why."""


class Need(NamedTuple):
    """What an option needs to have an effect: a test of the configuration, and how to meet it."""

    met: Callable[[Any], bool]
    fix: str


ONLINE = Need(lambda args: args.pp_share + args.pr_share > 0, "set pp_share or pr_share")
ON_POLICY = Need(
    lambda args: args.pp_share + args.pr_share > 0 and sum(args.generators) < 1,
    "set pp_share or pr_share, and leave some of their pairs to the current policy",
)
SYNC = Need(lambda args: args.sync_ref_model, "set sync_ref_model=True")

NEEDS: dict[str, Need] = {
    **dict.fromkeys(("num_samples", "temperature", *GENERATORS), ONLINE),
    "kl_penalty": ON_POLICY,
    "u_penalty": Need(lambda args: any(args.shares), "set dp_share, pp_share or pr_share"),
    "labels": Need(lambda args: args.pr_share > 0, "set pr_share"),
    "dp_labels": Need(lambda args: args.dp_share > 0, "set dp_share"),
    "lag_steps": Need(lambda args: args.lagged_generator > 0, "set lagged_generator"),
    "label_smoothing": Need(lambda args: args.pair_loss == "cdpo", "set pair_loss='cdpo' too"),
    "simpo_gamma": Need(lambda args: args.pair_loss == "simpo", "set pair_loss='simpo' too"),
    "precompute_ref_batch_size": Need(lambda args: args.precompute_ref_log_probs, "set precompute_ref_log_probs=True"),
    "ref_model_mixup_alpha": SYNC,
    "ref_model_sync_steps": SYNC,
}

MANNERS = ("num_samples", "temperature", "labels", "dp_labels", "lag_steps")
"""Of these, the ones that say how something is done. Where it is not done they get a warning, so that one set of
settings can serve several routes; the others ask for something that would not happen, and are refused."""


def check_values(args: Any) -> None:
    """Each option by itself."""
    for name, allowed in CHOICES.items():
        if getattr(args, name) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(args, name)!r}")
    for name, (holds, words) in RANGES.items():
        value = getattr(args, name)
        if value is None and name in MAY_BE_NONE:
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, Real)
            or not holds(float(value) if not isinstance(value, Integral) else int(value))
        ):
            raise ValueError(f"{name} must be {words}; got {value!r}")


def check_idle(args: Any, defaults: dict[str, Any]) -> None:
    """Options that would be ignored. Called from ``__post_init__``, so that a warning names the caller's line.

    Args:
        args: the configuration.
        defaults: of its fields.
    """
    for name, why in REFUSED.items():
        if getattr(args, name) != defaults[name]:
            raise ValueError(f"SAIL cannot use {name}={getattr(args, name)!r}: leave it at {defaults[name]!r} ({why})")
    for name, need in NEEDS.items():
        if getattr(args, name) != defaults[name] and not need.met(args):
            sentence = f"{name}={getattr(args, name)!r} has no effect here: {need.fix}, or leave it out"
            if name not in MANNERS:
                raise ValueError(sentence)
            _warn(sentence)
    for route in ROUTES:
        if getattr(args, f"{route}_coef") and not getattr(args, f"{route}_share"):
            raise ValueError(f"{route}_coef has no effect without examples on its route: set {route}_share > 0")


def check_routes(args: Any) -> None:
    """Shares of routes and generators, and whether there is something to learn from."""
    for names, what in (([f"{r}_share" for r in ROUTES], "route shares"), (GENERATORS, "shares of the generators")):
        shares = {name: getattr(args, name) for name in names}
        if sum(shares.values()) > 1 + 1e-9:
            raise ValueError(f"the {what} must sum to at most 1: lower one of {shares}")
    if args.label_fraction == 0 and not any(args.shares):
        raise ValueError(
            "label_fraction=0 leaves nothing to learn from: raise it, or set dp_share, pp_share or pr_share"
        )
    self_labelled = args.pp_share + (args.dp_share if args.dp_labels == "self" else 0.0)
    if args.label_smoothing >= STABLE_SMOOTHING and self_labelled > 0:
        raise ValueError(
            f"label_smoothing={args.label_smoothing} leaves self-labelled pairs (DP, PP) no stable margin but 0: "
            f"choose less than {STABLE_SMOOTHING}"
        )
    if args.sync_ref_model and args.start_generator > 0:
        raise ValueError(
            "start_generator samples from the start policy, which sync_ref_model=True does not keep: set only one"
        )
    if args.curriculum != "none" and args.train_sampling_strategy == "group_by_length":
        raise ValueError(
            f"curriculum={args.curriculum!r} and train_sampling_strategy='group_by_length' both order the data: set "
            "only one"
        )


def warn_of_surprises(args: Any) -> None:
    """What is allowed and seldom meant. Called from ``__post_init__``, so that the caller's line is named."""
    if args.temperature != 1 and args.scores_responses:
        _warn(
            f"temperature={args.temperature} biases the score term, whose gradient is that of sampling at 1: set "
            "temperature=1, or the coefficients of the online routes and the penalties to 0"
        )
    labelled = args.label_fraction if sum(args.shares) < 1 - 1e-9 else 0
    if not labelled and not args.pr_share:
        _warn(
            "without an offline or PR share the start policy is a stationary point of DP and PP: nothing will be "
            "learned; leave some probability to the offline route"
        )
    if args.pair_loss == "simpo" and (args.beta == 0.1 or args.simpo_gamma == 0):
        _warn(
            f"SimPO with beta={args.beta} and simpo_gamma={args.simpo_gamma}: its paper has beta from 2 to 10 and "
            "simpo_gamma about half of beta, since its reward is a mean over tokens; set both (2.5 and 1.375, say)"
        )
    for name, value in (
        ("disable_dropout", args.disable_dropout),
        ("neftune_noise_alpha", not args.neftune_noise_alpha),
    ):
        if not value:
            _warn(
                f"{name}={getattr(args, name)} adds noise to the training forward, which sampling and the reference do "
                "not have: log-probabilities of sampled responses are then not the trained ones; leave it out"
            )


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=5)
