"""``SAILConfig`` uses, refuses or warns about every option: nothing is ignored silently."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments
from trl import DPOConfig

from sail.checks import RANGES
from sail.config import SAILConfig, cpu_arguments


def config(folder: Path, **settings: Any) -> SAILConfig:
    return SAILConfig(output_dir=str(folder), **(cpu_arguments() | settings))


USED = {
    "model_init_kwargs": "how policy and reference are loaded",
    "trust_remote_code": "the same",
    "router_aux_loss_coef": "tests/tiny/test_logs.py: the auxiliary loss is TRL's",
    "dataset_num_proc": "TRL's preparation of text data",
    "max_length": "the collator, and the longest response",
    "pad_to_multiple_of": "the collator",
    "precompute_ref_log_probs": "stored pairs; online pairs are referred in their step",
    "beta": "scale of the implicit reward",
    "activation_offloading": "TRL's training_step",
    "sync_ref_model": "tests/tiny/test_logs.py: the pairs of a step refer to the model as it is then",
    "pad_token": "TRL's tokenizer handling, which warns that it is deprecated",
}
IDLE: dict[str, tuple[Any, dict[str, Any]]] = {
    "label_smoothing": (0.1, {"pair_loss": "cdpo"}),
    "precompute_ref_batch_size": (4, {"precompute_ref_log_probs": True}),
    "ref_model_mixup_alpha": (0.5, {"sync_ref_model": True}),
    "ref_model_sync_steps": (8, {"sync_ref_model": True}),
}
REFUSED: dict[str, Any] = {
    "loss_type": ["ipo"],
    "loss_weights": [0.5],
    "ld_alpha": 0.5,
    "f_divergence_type": "js_divergence",
    "f_alpha_divergence_coef": 0.7,
    "use_weighting": True,
    "discopop_tau": 0.1,
    "truncation_mode": "keep_end",
    "padding_free": True,
}
WARNED = {"disable_dropout": False}


def test_every_option_of_trl_has_its_place() -> None:
    """An option that a new TRL brings fails here until somebody has decided on it."""
    base = {f.name for f in dataclasses.fields(TrainingArguments)}
    trls = {f.name for f in dataclasses.fields(DPOConfig)} - base
    places: list[set[str]] = [set(USED), set(IDLE), set(REFUSED), set(WARNED)]
    assert set().union(*places) == trls
    assert sum(map(len, places)) == len(trls)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", [*REFUSED, "label_smoothing_factor"])
def test_refused_options_of_trl(tmp_path: Path, name: str) -> None:
    value = REFUSED.get(name, 0.1)
    with pytest.raises(ValueError, match=rf"SAIL cannot use {name}=.*: leave it at "):
        config(tmp_path, **{name: value})


NEEDS: dict[str, tuple[Any, dict[str, Any]]] = IDLE | {
    "simpo_gamma": (1.0, {"pair_loss": "simpo", "beta": 2.0}),
    "num_samples": (3, {"pp_share": 0.1}),
    "temperature": (0.9, {"pr_share": 0.1, "pr_coef": 0.0}),
    "start_generator": (0.5, {"pr_share": 0.1}),
    "lagged_generator": (0.5, {"pr_share": 0.1}),
    "other_generator": (0.5, {"pr_share": 0.1}),
    "lag_steps": (5, {"pr_share": 0.1, "lagged_generator": 0.5}),
    "kl_penalty": (0.1, {"pr_share": 0.1}),
    "u_penalty": (0.1, {"dp_share": 0.1}),
    "labels": ("soft", {"pr_share": 0.1}),
    "dp_labels": ("dataset", {"dp_share": 0.1}),
    "dp_coef": (0.1, {"dp_share": 0.1}),
    "pp_coef": (0.1, {"pp_share": 0.1}),
    "pr_coef": (0.1, {"pr_share": 0.1}),
}


@pytest.mark.parametrize("name", NEEDS)
def test_options_that_others_make_idle(tmp_path: Path, name: str) -> None:
    """Refused without what they need, or, if they only say how something is done, warned about; silent with it."""
    value, needed = NEEDS[name]
    warned = name in ("num_samples", "temperature", "labels", "dp_labels", "lag_steps")
    sentence = rf"^{name}\S* has no effect .*: set "
    with pytest.warns(UserWarning, match=sentence) if warned else pytest.raises(ValueError, match=sentence):
        config(tmp_path, **{name: value})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        config(tmp_path, **{name: value}, **needed)


BAD: dict[str, list[Any]] = {
    **{f"{route}_share": [-0.1, 1.2, math.nan, "0.3", True, None] for route in ("dp", "pp", "pr")},
    **{f"{route}_coef": [-0.1, math.nan, math.inf] for route in ("dp", "pp", "pr")},
    **{f"{source}_generator": [-0.1, 1.2, math.nan] for source in ("start", "lagged", "other")},
    "beta": [0, 0.0, -0.1, math.nan, math.inf, "0.1", None, True],
    "temperature": [0.0, -1.0, math.nan, math.inf],
    "simpo_gamma": [-1.0, math.nan],
    "kl_penalty": [-0.1, math.nan],
    "u_penalty": [-0.1, math.inf],
    "min_strength": [-0.1, math.nan],
    "flip_rate": [-0.1, 0.5, math.nan],
    "label_smoothing": [-0.1, 0.5, math.nan],
    "label_fraction": [-0.1, 1.1, math.nan],
    "num_samples": [1, 0, 2.5, "3"],
    "max_new_tokens": [0, -1, 2.5],
    "generation_batch_size": [0],
    "lag_steps": [0],
    "term_norms_every": [-1],
    "noise_seed": [0.5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_values_out_of_range(tmp_path: Path, name: str, value: Any) -> None:
    needed = NEEDS.get(name, (0, {}))[1]
    with pytest.raises(ValueError, match=rf"^{name} must be [^\n]*; got {value!r}$"):
        config(tmp_path, **(needed | {name: value}))


def test_every_number_of_sail_has_a_range() -> None:
    trls = {f.name for f in dataclasses.fields(DPOConfig)}
    kinds = ("float", "int", "float | None", "int | None")
    numbers = {f.name for f in dataclasses.fields(SAILConfig) if f.name not in trls and f.type in kinds}
    assert numbers | {"beta", "label_smoothing"} == set(RANGES) == set(BAD)


CASES: list[tuple[dict[str, Any], str]] = [
    ({"pair_loss": "dpo"}, "pair_loss must be one of bt, cdpo, hinge, ipo, simpo; got 'dpo'"),
    ({"estimator": "magic"}, "estimator must be one of score, "),
    ({"labels": "loud"}, "labels must be one of hard, "),
    ({"curriculum": "up"}, "curriculum must be one of none, "),
    ({"baseline": "mean"}, "baseline must be one of loo, none"),
    ({"pr_share": 0.8, "pp_share": 0.4}, "route shares must sum to at most 1"),
    ({"pr_share": 0.5, "start_generator": 0.7, "other_generator": 0.4}, "shares of the generators must sum to at most"),
    ({"label_fraction": 0.0}, "label_fraction=0 leaves nothing to learn from"),
    ({"pair_loss": "cdpo", "label_smoothing": 0.25, "dp_share": 0.3}, "no stable margin but 0: choose less than 0.25"),
    ({"pair_loss": "cdpo", "label_smoothing": 0.3, "pp_share": 0.3}, "no stable margin but 0: choose less than 0.25"),
    ({"pr_share": 0.3, "start_generator": 1.0, "kl_penalty": 0.1}, "kl_penalty=0.1 has no effect here"),
    ({"pr_share": 0.3, "start_generator": 0.5, "sync_ref_model": True}, "set only one"),
    ({"curriculum": "wide-to-narrow", "train_sampling_strategy": "group_by_length"}, "both order the data"),
]


@pytest.mark.parametrize(("settings", "sentence"), CASES)
def test_combinations_that_are_refused(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        config(tmp_path, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pr_share": 0.7, "pp_share": 0.2, "dp_share": 0.1},
        {"label_fraction": 0.0, "pr_share": 0.5},
        {"pair_loss": "cdpo", "label_smoothing": 0.3},
        {"pair_loss": "cdpo", "label_smoothing": 0.3, "dp_share": 0.3, "dp_labels": "dataset"},
        {"pair_loss": "simpo", "beta": 2.5, "simpo_gamma": 1.375},
        {"num_samples": 4, "pr_share": 0.3, "kl_penalty": 0.1, "u_penalty": 0.1},
    ],
)
def test_sound_settings_pass_without_a_warning(tmp_path: Path, settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        config(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"disable_dropout": False}, "disable_dropout=False adds noise to the training forward"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha=5.0 adds noise to the training forward"),
        ({"pair_loss": "simpo"}, "beta from 2 to 10"),
        ({"pair_loss": "simpo", "beta": 2.0}, "simpo_gamma about half of beta"),
        ({"dp_share": 0.6, "pp_share": 0.4}, "stationary point"),
        ({"dp_share": 0.6, "label_fraction": 0.0}, "stationary point"),
        ({"pr_share": 0.3, "temperature": 0.7}, "temperature=0.7 biases the score term"),
        ({"pr_share": 0.3, "pr_coef": 0.0, "u_penalty": 0.1, "temperature": 0.7}, "temperature=0.7 biases"),
    ],
)
def test_warnings_name_the_callers_line(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.warns(UserWarning, match=sentence) as caught:
        SAILConfig(output_dir=str(tmp_path), **cpu_arguments(), **settings)
    assert [w.filename for w in caught if sentence in str(w.message)] == [__file__]
