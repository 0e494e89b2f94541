"""Whether the files of a model are at hand: configuration, weights and chat template, without loading any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.answer.adapter import CONFIG, WEIGHTS, Source, adapter_in
from harness.errors import AbsentError, Problem
from harness.store import hub
from harness.store.json_files import read_json

BUILT_IN = ("smollm2", "tiny")

NO_TEMPLATE = Problem(
    "template",
    "The start policy's tokenizer has no chat template",
    "save one with the model, or set 'chat_template:' in the recipe to a Jinja file or fastchat:NAME",
)

TOKENIZER = "tokenizer_config.json"

TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates", "tekken.json")
"""Files and folders beside :data:`TOKENIZER` that a chat template may be in."""


def model_problems(what: str, key: str, model: str) -> list[Problem]:
    """What of a model's files is not there. The Hub is asked for its small files alone.

    Args:
        what: has the model.
        key: of the recipe that names it.
        model: as a recipe writes it: a directory (which exists), a Hub id or a built-in name.
    """
    if model in BUILT_IN:
        return []
    folder = Path(model)
    if folder.is_dir():
        adapter = adapter_in(folder)
        if adapter is not None and adapter.base is not None:
            return model_problems(what, key, adapter.base)
        if adapter is None and not (folder / "config.json").is_file():
            fix = f"set {key} to a directory written by save_pretrained"
            return [Problem(what, f"{folder} holds no config.json", fix)]
        return _weight_problems(what, key, folder)
    if folder.is_absolute() or model.startswith("."):
        return [Problem(what, f"The model directory {model} does not exist", f"set {key} to a saved model or a Hub id")]
    name, revision = Source.of(model)
    try:
        snapshot = hub.model_file(name, revision, "config.json").parent
    except AbsentError as error:
        if _of_hub(model, CONFIG) is not None:  # an adapter alone
            return []
        return [Problem(what, str(error), f"set {key} to a directory or Hub id that is at hand", absent=True)]
    return [] if hub.answers() else _weight_problems(what, key, snapshot)


def _weight_problems(what: str, key: str, folder: Path) -> list[Problem]:
    """Weights that are missing in a directory with a ``config.json``."""
    fix = f"copy them there, or set {key} to a directory written by save_pretrained"
    files = sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))
    if not files:
        return [Problem(what, f"{folder} holds no weights (model.safetensors)", fix, absent=True)]
    index = next((file for file in files if file.name.endswith(".index.json")), None)
    parts = sorted(set(read_json(index)["weight_map"].values())) if index else []
    missing = [part for part in parts if not (folder / part).is_file()]
    if missing:
        return [Problem(what, f"{folder} lacks {len(missing)} files of weights ({missing[0]})", fix, absent=True)]
    return []


def template_problems(model: str) -> list[Problem]:
    """The model comes without a chat template, as far as its files tell.

    Args:
        model: of a recipe that names no template itself.
    """
    if model in BUILT_IN:
        return []
    settings = _file(model, TOKENIZER)
    if settings is None:
        adapter = adapter_in(Path(model)) if Path(model).is_dir() else None
        return template_problems(adapter.base) if adapter is not None and adapter.base is not None else []
    if read_json(settings).get("chat_template") or any(_file(model, name) for name in TEMPLATES):
        return []
    return [NO_TEMPLATE]


def tokenizer_of(model: str) -> Any:
    """The tokenizer of a model in a directory, by the library ``tokenizers`` alone; None where there is none."""
    file = Path(model) / "tokenizer.json"
    if model in BUILT_IN or not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception:  # noqa: BLE001 - a plain Exception by its Rust code; transformers will say more
        return None


def _file(model: str, name: str) -> Path | None:
    """A file (or folder) of a model; None if there is none."""
    folder = Path(model)
    if folder.is_dir():
        return folder / name if (folder / name).exists() else None
    return _of_hub(model, name)


def _of_hub(model: str, name: str) -> Path | None:
    repository, revision = Source.of(model)
    try:
        return hub.model_file(repository, revision, name)
    except AbsentError:
        return None
