"""The reference policy of full fine-tuning. It has to be named: it is never guessed from the model."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from sail.config import SAILConfig


def reads_reference(args: SAILConfig) -> bool:
    """Whether the reference policy enters the loss or samples responses. If not, it is neither loaded nor run."""
    return args.pair_loss != "simpo" or args.kl_penalty > 0 or args.start_generator > 0


def resolve_reference(ref_model: Any, model: Any, args: SAILConfig, peft_config: Any) -> Any:
    """The reference model in memory; None where the policy's adapter or the data stands in for it, or nothing reads it.

    Args:
        ref_model: directory of a saved model, a model in memory, or None.
        model: the policy: its address, or a model in memory.
        args: of the trainer.
        peft_config: of the adapter that the trainer will add, if any.

    Raises:
        ValueError: full fine-tuning without a reference, a directory that holds no model, or ``sync_ref_model`` where
            nothing reads the reference.
    """
    if not reads_reference(args):
        if args.sync_ref_model:
            raise ValueError(
                f"sync_ref_model=True has no effect, since pair_loss={args.pair_loss!r} reads no reference: remove it"
            )
        if ref_model is not None:
            warnings.warn(f"pair_loss={args.pair_loss!r} reads no reference: ref_model is left out", stacklevel=3)
        return None
    if isinstance(ref_model, str | Path):
        return load_reference(ref_model, model, args)
    in_the_data = args.precompute_ref_log_probs and not args.pp_share + args.pr_share
    if ref_model is None and not (hasattr(model, "peft_config") or peft_config or in_the_data):
        raise ValueError(
            "full fine-tuning needs ref_model=...: the directory where the start policy is saved, or a copy of it "
            "in memory (it is never guessed from the model's name); or train an adapter with peft_config=..."
        )
    return ref_model


def load_reference(folder: str | Path, model: Any, args: SAILConfig) -> Any:
    """The reference policy from the directory where it is saved, in the policy's dtype.

    Args:
        folder: directory of a saved model.
        model: the policy: its address, or a model in memory, whose dtype and attention the reference then takes.
        args: of the trainer; ``model_init_kwargs`` apply to the reference too.

    Raises:
        ValueError: the directory does not exist or holds no model.
    """
    from trl.trainer.utils import create_model_from_path

    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"ref_model={str(folder)!r} is no directory of a saved model (no config.json in it)")
    settings = dict(args.model_init_kwargs or {})
    if not isinstance(model, str | Path):
        settings |= {"dtype": model.dtype, "attn_implementation": model.config._attn_implementation}
    return create_model_from_path(str(folder), **settings)
