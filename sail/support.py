"""What the trainer cannot do yet, refused in a sentence before a model is loaded."""

from __future__ import annotations

import os
from typing import Any

from accelerate.state import AcceleratorState

from sail.config import SAILConfig
from sail.data import columns_of
from sail.labels import TextPreference, takes
from sail.rotary import constant_rotary_length


def check_labellers(args: SAILConfig, preference: Any, reward_funcs: Any, processing_classes: Any = None) -> None:
    """Refuse a PR share that nothing labels, two labellers at once, labellers of nothing, and what is no labeller.

    Args:
        args: of the trainer.
        preference: as given to the trainer.
        reward_funcs: as given to the trainer.
        processing_classes: ``reward_processing_classes`` as given to the trainer.

    Raises:
        ValueError: one of these.
    """
    if reward_funcs is not None and preference is not None:
        raise ValueError("preference and reward_funcs both label the pairs of the PR route: give one of them")
    if args.pr_share > 0 and preference is None and reward_funcs is None:
        raise ValueError("pr_share > 0 needs preference=... or reward_funcs=..., which label sampled pairs")
    if reward_funcs is not None and not args.pr_share:
        raise ValueError("reward_funcs label the pairs of the PR route, and there are none: set pr_share > 0")
    if preference is not None and not args.pr_share:
        raise ValueError("preference labels the pairs of the PR route, and there are none: set pr_share > 0")
    if args.reward_weights is not None and reward_funcs is None:
        raise ValueError("reward_weights weigh reward_funcs, and there are none: give reward_funcs=... too")
    if processing_classes is not None and reward_funcs is None:
        raise ValueError("reward_processing_classes belong to reward_funcs, and there are none: give reward_funcs too")
    if preference is not None and not isinstance(preference, TextPreference) and not takes(preference, 1):
        raise ValueError(
            f"preference={preference!r} is no function of one list of pairs: give a function that takes one, or wrap a "
            "function of texts as TextPreference(function)"
        )


def check_generator(args: SAILConfig, generator: Any) -> None:
    """Refuse a share of ``other_generator`` without the model, and the model without a share.

    Raises:
        ValueError: one of these.
    """
    if args.other_generator > 0 and generator is None:
        raise ValueError("other_generator > 0 needs generator=..., the model that samples")
    if generator is not None and not args.other_generator:
        raise ValueError("generator samples the share other_generator, which is 0: set it, or leave generator out")


def check_reserved(dataset: Any) -> None:
    """Refuse a column with a name under which reward functions get something else.

    Raises:
        ValueError: names it.
    """
    taken = sorted({"prompts", "completions", "trainer_state", "log_metric"} & set(columns_of(dataset)))
    if taken:
        raise ValueError(
            f"the train set has a column {taken[0]!r}, a name that reward functions get for something else: rename it"
        )


def reads_texts(preference: Any, reward_funcs: Any) -> bool:
    """Whether what labels pairs reads texts, so that a step needs the data set's rows beside their token ids."""
    return reward_funcs is not None or isinstance(preference, TextPreference)


def check_columns(dataset: Any, name: str, *, texts: bool) -> None:
    """Refuse a data set of images, and one of token ids alone where texts are read.

    Args:
        dataset: as given to the trainer.
        name: of the data set.
        texts: whether what labels pairs reads texts.

    Raises:
        ValueError: one of these.
    """
    columns = columns_of(dataset)
    images = sorted({"image", "images"} & set(columns))
    if images:
        raise ValueError(f"SAILTrainer trains on text, and the {name} set has a column {images[0]!r}: leave it out")
    if texts and "prompt_ids" in columns and "prompt" not in columns:
        raise ValueError(
            f"reward_funcs and TextPreference read texts, and the {name} set holds token ids alone: add a column "
            "'prompt', or give preference=... a function of token ids"
        )


def check_rotary(config: Any, args: SAILConfig) -> None:
    """Refuse batches that would pass the length at which a model's rotary factors change.

    Args:
        config: of the model.
        args: of the trainer.

    Raises:
        ValueError: ``max_length`` allows longer rows.
    """
    limit, multiple = constant_rotary_length(config), args.pad_to_multiple_of or 1
    if limit is not None and (args.max_length is None or -(-args.max_length // multiple) * multiple > limit):
        raise ValueError(
            f"the rotary factors of the model change after {limit} tokens, so that log-probabilities beyond depend on "
            f"the batch: set max_length to at most {limit // multiple * multiple}, not {args.max_length}"
        )


def check_sharding(args: SAILConfig) -> None:
    """Refuse what cannot work where the policy's weights are sharded over processes.

    FSDP2 gathers them for sampling (:mod:`sail.sharded`); nothing does so under FSDP1 and DeepSpeed.

    Args:
        args: of the trainer.

    Raises:
        ValueError: online routes under FSDP1 or DeepSpeed; generators other than the policy and the reference, or norms
            of the terms, under any of them.
    """
    engine = sharding(args)
    if not engine:
        return
    if args.pp_share + args.pr_share > 0 and engine != "FSDP2":
        raise ValueError(
            f"the routes pp and pr do not run under {engine}: use FSDP2 (fsdp_config={{'version': 2}}), launch without "
            "it (plain data parallelism works), or set pp_share and pr_share to 0"
        )
    if args.lagged_generator + args.other_generator > 0:
        raise ValueError(f"lagged_generator and other_generator do not run under {engine}: set both to 0")
    if args.term_norms_every:
        raise ValueError(f"term_norms_every does not run under {engine}: set it to 0")


def sharding(args: SAILConfig) -> str | None:
    """``FSDP2``, ``FSDP1`` or ``DeepSpeed``, if it shards the weights by the arguments, the launcher or accelerate's
    state."""
    state = str(AcceleratorState._shared_state.get("distributed_type", ""))
    for engine, given in (("DeepSpeed", args.deepspeed_plugin), ("FSDP", args.fsdp_plugin_args)):
        name = engine.upper()
        if given or name in state or os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true", "yes"):
            return engine if engine == "DeepSpeed" else f"FSDP{_fsdp_version(given)}"
    return None


def _fsdp_version(given: Any) -> int:
    """The version of FSDP by the arguments, else by accelerate's state or the launcher's environment."""
    plugin = AcceleratorState._shared_state.get("fsdp_plugin")
    named = (given or {}).get("fsdp_version") or getattr(plugin, "fsdp_version", None)
    return int(named or os.environ.get("FSDP_VERSION", "1"))
