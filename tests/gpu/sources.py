"""The project from its source tree: entry points without an installation, its command line, recipes, random models."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

SIZE_8B = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
SIZE_8B |= {"intermediate_size": 14336, "vocab_size": 128256}
SIZE_1B = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
SIZE_1B |= {"intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": True}
SIZE_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SIZE_SMALL |= {"intermediate_size": 128, "vocab_size": 1000}
"""Shapes: Llama-3-8B's, Llama-3.2-1B's (1.24 billion weights), and one for a CPU."""


def provide_entry_points(folder: Path) -> None:
    """Let this process and its children find the plugins of this tree, whatever is installed.

    Args:
        folder: gets what an installation would have written.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / "site" / "sail_bench.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
    groups = project["entry-points"].items()
    listed = "".join(f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for g, points in groups)
    (info / "entry_points.txt").write_text(listed)
    paths = [str(ROOT), str(info.parent)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])


def command_line(*arguments: object) -> list[str]:
    """The project's command line as a command."""
    return [sys.executable, "-c", "from harness.cli import main; main()", *map(str, arguments)]


def write_recipe(folder: Path, name: str, **changes: Any) -> Path:
    """The built-in recipe ``tiny`` with other top-level keys."""
    import yaml

    raw = yaml.safe_load((ROOT / "harness/recipe/builtin/tiny.yaml").read_text(encoding="utf-8"))
    raw |= {"name": name, "benchmarks": {"preference": {"max_new_tokens": 16}}} | changes
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return file


def random_llama(device: str, **size: Any) -> Any:
    """A random bfloat16 Llama of a size, ready to be asked.

    Args:
        device: that it is made on.
        size: of its configuration.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    ids = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": 257}
    config = LlamaConfig(max_position_embeddings=8192, **size, **ids)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def save_random_llama(folder: Path, device: str, **size: Any) -> Path:
    """A random Llama with the byte-level tokenizer of the tiny policy, saved.

    Args:
        folder: gets the model.
        device: that it is made on.
        size: of its configuration.
    """
    from harness.answer.tiny_model import build_tokenizer

    random_llama(device, **size).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def peak_gib() -> float | None:
    """Peak memory of the GPU since :func:`fresh`, in GiB; None on a CPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


def fresh() -> None:
    """Free what is cached, and count peak memory from here."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def synchronize() -> None:
    """Wait for the GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
