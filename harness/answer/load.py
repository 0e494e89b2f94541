"""Loading a saved policy: tokenizer, weights in the recipe's precision, and the context that they are computed in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.answer.adapter import CONFIG
from harness.budget.flops import BLOCK
from harness.recipe.train import Precision
from harness.store.json_files import read_json

MIN_WEIGHTS = 5_000_000
"""Weights of the lower blocks; with fewer, a file costs about as much time as it saves."""


class ModelAndTokenizer(NamedTuple):
    """A causal language model of transformers and its tokenizer."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True)
class Loading:
    """How the policies of a comparison are loaded and computed with.

    Attributes:
        precision: the recipe's.
        attention: the recipe's ``train.attention``; transformers' choice if None.
    """

    precision: Precision = "float32"
    attention: str | None = None

    @property
    def dtype(self) -> str:
        """Name of the torch type of the weights."""
        return "bfloat16" if self.precision == "bf16" else "float32"

    @property
    def merges(self) -> bool:
        """Whether an adapter is merged into the weights that it is evaluated with. In bfloat16, also under autocast,
        the sum would be rounded by as much as a small adapter changes it."""
        return self.precision == "float32"

    @property
    def options(self) -> dict[str, Any]:
        """Of ``from_pretrained``."""
        return {"dtype": self.dtype, **({"attn_implementation": self.attention} if self.attention else {})}


def load_tokenizer(folder: Path) -> Any:
    """Tokenizer of a saved policy."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def load_model(start: Path, adapter: Path | None = None, loading: Loading | None = None) -> Any:
    """A saved model in evaluation mode, on the accelerator if there is one.

    Args:
        start: folder of the start policy.
        adapter: folder of a trained policy: a LoRA adapter on the start policy, merged into it where ``loading``
            allows, or a fully fine-tuned model, which is loaded in place of it.
        loading: precision and attention; float32 if None.
    """
    from transformers import AutoModelForCausalLM

    from harness.answer.packed_weights import pack_linears

    loading = loading or Loading()
    on_start = adapter is not None and is_adapter(adapter)
    source = start if adapter is None or on_start else adapter
    model = AutoModelForCausalLM.from_pretrained(source, **loading.options)
    if on_start:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
        model = model.merge_and_unload() if loading.merges else without_input_casts(model, loading.precision)
    return pack_linears(on_accelerator(model).eval())


def is_adapter(folder: Path) -> bool:
    """Whether a saved policy is an adapter of PEFT, not a whole model."""
    return (folder / CONFIG).is_file()


def unchanged_blocks(folder: Path) -> int:
    """How many of the lowest blocks, with all below them, a saved policy has in common with the start policy, by the
    names of the weights that it was saved with. 0 for whatever else than an adapter of blocks alone."""
    from safetensors import safe_open

    file = folder / "adapter_model.safetensors"
    if not is_adapter(folder) or not file.is_file():
        return 0
    with safe_open(file, "pt") as weights:
        blocks = [BLOCK.search(f".{name}.") for name in weights.keys()]  # noqa: SIM118 - no dict
    return min((int(block[1]) if block else 0 for block in blocks), default=0)


def shared_blocks(model: Any, folder: Path | None, adapted: int) -> list[Any]:
    """The lowest blocks that a policy shares with the others: all below the top blocks that the recipe adapts.

    Empty where the policy changes one of them, where they are too small to be worth it, and on a GPU.

    Args:
        model: a causal language model of transformers.
        folder: where the policy is saved; None for the start policy.
        adapted: top blocks that the recipe puts an adapter on; 0 for all.
    """
    from torch import nn

    from sail.prefill import backbone

    layers = model.config.get_text_config().num_hidden_layers
    number = layers - adapted
    if device() != "cpu" or not adapted or number <= 0 or (folder and unchanged_blocks(folder) < number):
        return []
    stacks = (part for part in backbone(model).children() if isinstance(part, nn.ModuleList) and len(part) == layers)
    blocks = list(next(stacks, ()))[:number]
    return blocks if sum(weight.numel() for block in blocks for weight in block.parameters()) >= MIN_WEIGHTS else []


def device() -> str:
    """Name of the device of models: the accelerator, if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def on_accelerator(model: Any) -> Any:
    """The model on the accelerator, if there is one."""
    return model.to(device())


def allow_tf32(allowed: bool) -> None:
    """Let this process's GPU multiply float32 matrices with TF32's 10 bits of mantissa, or not. A CPU has none.

    Args:
        allowed: the recipe's ``tf32``.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def autocast(precision: Precision) -> AbstractContextManager[Any]:
    """The context of every forward outside a trainer: that of the training forward, so that log-probabilities agree.

    Args:
        precision: of the recipe.
    """
    if precision == "float32":
        return nullcontext()
    import torch

    context: AbstractContextManager[Any] = torch.autocast(device(), dtype=torch.bfloat16)
    return context


def without_input_casts(model: Any, precision: Precision) -> Any:
    """The model, whose adapters leave the cast of their inputs to :func:`autocast` where there is one.

    PEFT would copy every input into the adapter's float32 first, and autocast would round it back to the same numbers.
    Outside autocast a float32 adapter then refuses an input in bfloat16.

    Args:
        model: of transformers, with adapters of PEFT or without.
        precision: of the recipe. Nothing changes under ``float32``.
    """
    if precision != "float32":
        for module in model.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = False
    return model


def saved_eos_ids(folder: Path, tokenizer: Any) -> list[int]:
    """Ids that end an answer of the model saved in ``folder``, read without loading it: those that
    :func:`sail.sampling.end_ids` gives of the loaded model. May be empty."""
    from sail.sampling import configured_end_ids

    file = next((f for f in (folder / "generation_config.json", folder / "config.json") if f.is_file()), None)
    return configured_end_ids(read_json(file).get("eos_token_id") if file else None, tokenizer)
