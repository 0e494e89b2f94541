"""Loading a saved policy: tokenizer, model, and a LoRA adapter merged into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from harness.store.json_files import read_json


class ModelAndTokenizer(NamedTuple):
    """A causal language model of transformers and its tokenizer."""

    model: Any
    tokenizer: Any


def load_tokenizer(folder: Path) -> Any:
    """Tokenizer of a saved policy."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def load_model(start: Path, adapter: Path | None = None, dtype: str = "float32") -> Any:
    """A saved model in evaluation mode, on the accelerator if there is one.

    Args:
        start: folder of the start policy.
        adapter: folder of a trained policy: a LoRA adapter, which is merged into the start policy, or a fully
            fine-tuned model, which is loaded in place of it.
        dtype: name of the torch type of the weights.
    """
    import torch
    from transformers import AutoModelForCausalLM

    is_full_model = adapter is not None and not (adapter / "adapter_config.json").is_file()
    source = adapter if is_full_model else start
    model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
    if adapter is not None and not is_full_model:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return on_accelerator(model).eval()


def on_accelerator(model: Any) -> Any:
    """The model on the accelerator, if there is one."""
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def saved_eos_ids(folder: Path, tokenizer: Any) -> list[int]:
    """Ids that end an answer of the model saved in ``folder``, read without loading it: those that
    :func:`sail.sampling.end_ids` gives of the loaded model. May be empty."""
    from sail.sampling import configured_end_ids

    file = next((f for f in (folder / "generation_config.json", folder / "config.json") if f.is_file()), None)
    return configured_end_ids(read_json(file).get("eos_token_id") if file else None, tokenizer)
