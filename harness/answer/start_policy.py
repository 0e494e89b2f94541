"""The start policy: whatever a recipe names becomes a saved safetensors directory, once, and is checked then.

A recipe's ``model`` is ``smollm2`` (embedded), ``tiny`` (built on the spot), a directory, or a Hub id with an optional
revision (``org/name@revision``). A directory or Hub id may hold an adapter of PEFT, which is merged into its base.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.answer import smollm2
from harness.answer.adapter import adapter_in, load_tokenizer_of, load_weights
from harness.answer.chat_date import date_tokenizer
from harness.answer.chat_template import set_chat_template, template_text
from harness.answer.load import ModelAndTokenizer, on_accelerator
from harness.errors import UserError
from harness.recipe.recipe import CHAT_DATE
from harness.store.json_files import digest, file_digest
from harness.store.stages import Stage, Store
from harness.store.versions import START_VERSION

OWN_BASE = "beside the adapter"


def start_stage(model: str, template: str | None = None, day: date = CHAT_DATE) -> Stage:
    """The stage that holds the start policy of a recipe.

    Args:
        model: the recipe's ``model``. A directory is hashed, once a process; that of an adapter with its base.
        template: the recipe's ``chat_template``, if it names one.
        day: the recipe's ``chat_date``.

    Raises:
        UserError: the model or the template does not exist.
    """
    chat_template = {} if template is None else {"chat_template": digest(template_text(template))}
    chat_date = {} if day == CHAT_DATE else {"chat_date": day.isoformat()}
    return Stage("start", {"version": START_VERSION, **_weights_identity(model), **chat_template, **chat_date})


def _weights_identity(model: str) -> dict[str, Any]:
    """What identifies the weights that a recipe names."""
    if model == "smollm2":
        smollm2.smollm2_folder()  # fails here if it is not installed
        return {"embedded": "smollm2", "sha256": smollm2.SMOLLM2_SHA256}
    if model == "tiny":
        return {"built": "tiny"}
    folder = Path(model)
    if folder.is_dir():
        adapter = adapter_in(folder)
        if adapter is None:
            return {"directory": _directory_digest(folder)}
        base = OWN_BASE if adapter.base is None else _weights_identity(adapter.base)
        return {"directory": _digest_of_files(folder), "base": base}
    if folder.is_absolute() or model.startswith("."):
        raise UserError(f"The model directory {model} does not exist: set 'model:' to a saved model or a Hub id")
    name, _, revision = model.partition("@")
    return {"hub": name, "revision": revision or "main"}


def _directory_digest(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json: set 'model:' to a directory written by save_pretrained")
    return _digest_of_files(folder)


def _digest_of_files(folder: Path) -> str:
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return _files_digest(tuple((p, p.stat().st_size, p.stat().st_mtime_ns) for p in files))


@lru_cache(maxsize=8)
def _files_digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash of the contents of files (path, size, time); the latter two make a changed file another argument."""
    return digest([[path.name, file_digest(path)] for path, _, _ in files])


def build_start(model: str, store: Store, template: str | None = None, day: date = CHAT_DATE) -> Path:
    """Directory of the start policy, made and checked on first use.

    Args:
        model: the recipe's ``model``.
        store: keeps the directory as a stage. Its manifest has ``chat_date`` where the template writes a date.
        template: the recipe's ``chat_template``, if any; it replaces that of the tokenizer.
        day: the recipe's ``chat_date``.

    Raises:
        UserError: the model cannot be loaded, or does not pass :func:`harness.answer.start_checks.check_start`.
    """

    def build(work: Path) -> dict[str, Any]:
        from harness.answer.start_checks import check_start  # loads torch, which planning does without

        loaded, tokenizer = _load(model)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if template is not None:
            set_chat_template(tokenizer, template)
        writes_date = date_tokenizer(tokenizer, day)
        check_start(model, on_accelerator(loaded), tokenizer)
        loaded.save_pretrained(work)
        tokenizer.save_pretrained(work)
        return {"chat_date": day.isoformat()} if writes_date else {}

    return store.get(start_stage(model, template, day), build)


def _load(model: str) -> ModelAndTokenizer:
    """The model that a recipe names and its tokenizer."""
    if model == "smollm2":
        return smollm2.load_smollm2()
    if model == "tiny":
        from harness.answer.tiny_model import build_tiny

        return build_tiny()
    from transformers import AutoModelForCausalLM

    try:
        weights = load_weights(AutoModelForCausalLM, model, dtype="auto")
        return ModelAndTokenizer(weights, load_tokenizer_of(model))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"The model {model!r} cannot be loaded ({reason}): set 'model:' to a directory or Hub id"
        ) from None
