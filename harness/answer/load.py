"""Loading a saved policy: tokenizer, model, and a LoRA adapter merged into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_tokenizer(folder: Path) -> Any:
    """Tokenizer of a saved policy."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def load_model(start: Path, adapter: Path | None = None, dtype: str = "float32") -> Any:
    """The model saved in ``start``, with a saved LoRA adapter merged in; or a fully fine-tuned model if ``adapter``
    holds one. On the accelerator if there is one."""
    import torch
    from transformers import AutoModelForCausalLM

    full = adapter is not None and not (adapter / "adapter_config.json").is_file()
    source = adapter if full else start
    model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
    if adapter is not None and not full:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
