"""The start policy: whatever a recipe names becomes a saved safetensors directory, once.

A recipe's ``model`` is ``smollm2`` (embedded), ``tiny`` (built on the spot), a directory, or a Hub id with an optional
revision (``org/name@revision``).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from harness.answer import smollm2
from harness.answer.chat_template import set_chat_template, template_text
from harness.answer.load import ModelAndTokenizer
from harness.errors import UserError
from harness.store.json_files import digest, file_digest
from harness.store.stages import Stage, Store
from harness.store.versions import START_VERSION


def start_stage(model: str, template: str | None = None) -> Stage:
    """The stage that holds the start policy of a recipe.

    Args:
        model: the recipe's ``model``. A directory is hashed, once a process.
        template: the recipe's ``chat_template``, if it names one.

    Raises:
        UserError: the model or the template does not exist.
    """
    chat_template = {} if template is None else {"chat_template": digest(template_text(template))}
    return Stage("start", {"version": START_VERSION, **_weights_identity(model), **chat_template})


def _weights_identity(model: str) -> dict[str, str]:
    """What identifies the weights that a recipe names."""
    if model == "smollm2":
        smollm2.smollm2_folder()  # fails here if it is not installed
        return {"embedded": "smollm2", "sha256": smollm2.SMOLLM2_SHA256}
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
    """Hash of the contents of files (path, size, time); the latter two make a changed file another argument."""
    return digest([[path.name, file_digest(path)] for path, _, _ in files])


def build_start(model: str, store: Store, template: str | None = None) -> Path:
    """Directory of the start policy, made on first use.

    Args:
        model: the recipe's ``model``.
        store: keeps the directory as a stage.
        template: the recipe's ``chat_template``, if any; it replaces that of the tokenizer.

    Raises:
        UserError: the model cannot be loaded, or its tokenizer has no end-of-sequence token.
    """

    def build(work: Path) -> None:
        if model == "smollm2":
            loaded, tokenizer = smollm2.load_smollm2()
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
            set_chat_template(tokenizer, template)
        loaded.save_pretrained(work)
        tokenizer.save_pretrained(work)

    return store.get(start_stage(model, template), build)


def _load(model: str) -> ModelAndTokenizer:
    """The model of a directory or a Hub id."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, _, revision = model.partition("@")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or None)
        weights = AutoModelForCausalLM.from_pretrained(name, revision=revision or None, dtype="auto")
        return ModelAndTokenizer(weights, tokenizer)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"The model {model!r} cannot be loaded ({reason}): set 'model:' to a directory or Hub id"
        ) from None
