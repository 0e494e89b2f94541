"""What a method's ``train()`` returned: checked to be a policy that can be loaded, and taken into the stage.

A folder in the work folder is moved; any other is copied, and stays as it is: it may be the start policy's, which all
runs share, or the user's own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from harness.answer.adapter import CHECKPOINT, CONFIG, WEIGHTS
from harness.errors import UserError, reason_of, shown
from harness.store.json_files import read_json, write_json
from harness.train.context import TrainContext

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

FRACTIONS = "fractions"
"""Folder in the work folder with the policies on the way, which stay there."""

FIX = "save it with save_pretrained(context.directory / 'policy') and return that folder"


def keep_policy(name: str, returned: Any, context: TrainContext) -> None:
    """Check what a method returned, and put it where it belongs, as ``policy`` in the work folder, with ``log.json``.

    Args:
        name: of the row, for the error.
        returned: by ``train()``.
        context: that it was given.

    Raises:
        UserError: it is no folder of a policy that can be loaded, or the training log holds more than numbers.
        FloatingPointError: weights are no finite numbers.
    """
    from harness.train.trainer import check_finite

    folder = policy_folder(name, returned, context.directory)
    log = _checked_log(name, context.log)
    context.tick()
    check_finite(folder)
    _take(folder, context.directory)
    write_json(context.directory / "log.json", log)


def policy_folder(name: str, returned: Any, work: Path) -> Path:
    """The folder that a method returned, which holds the files of a policy.

    Args:
        name: of the row, for the error.
        returned: by ``train()``.
        work: the work folder, which is no policy itself.

    Raises:
        UserError: it does not.
    """
    if returned is None:
        raise UserError(f"Method {name!r} returned no policy: train() must return its folder")
    if not isinstance(returned, str | os.PathLike):
        raise UserError(f"Method {name!r} returned {shown(returned)} from train(), which is no folder: {FIX}")
    try:
        folder = Path(os.fsdecode(returned))
        is_there = folder.is_dir()
    except ValueError:  # a NUL in it
        is_there = False
    if not is_there:
        raise UserError(f"Method {name!r} returned {shown(str(returned))}, which is no folder: {FIX}")
    if work.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"Method {name!r} returned {folder}, which holds the checkpoints too: {FIX}")
    if fault := policy_fault(folder):
        raise UserError(f"Method {name!r} returned {folder}, which is no policy: {fault}: {FIX}")
    return folder


def policy_fault(folder: Path) -> str:
    """Why the files of a folder are no policy that can be loaded; empty if they are one. No weight is read."""
    if not any(folder.iterdir()):
        return "it is empty"
    adapter = (folder / CONFIG).is_file()
    config = CONFIG if adapter else "config.json"
    if not (folder / config).is_file():
        return f"it holds neither config.json nor {CONFIG}"
    try:
        settings = read_json(folder / config)
    except (ValueError, OSError, RecursionError) as error:
        return f"its {config} cannot be read ({reason_of(error)})"
    if not isinstance(settings, dict):
        return f"its {config} is no JSON object"
    patterns = ADAPTER_WEIGHTS if adapter else WEIGHTS
    files = sorted(file for pattern in patterns for file in folder.glob(pattern) if not file.name.endswith(".json"))
    if not files:
        return f"it holds no weights ({patterns[0].replace('*', '')})"
    return next((fault for file in files if (fault := _file_fault(file))), "")


def _file_fault(file: Path) -> str:
    """Why a file holds no weights; empty if it holds some."""
    if not file.stat().st_size:
        return f"its {file.name} is empty"
    if file.suffix != ".safetensors":
        return ""
    from safetensors import safe_open

    try:
        with safe_open(str(file), "pt") as weights:
            names = list(weights.keys())
    except Exception as error:  # noqa: BLE001 - of its Rust code
        return f"its {file.name} cannot be read ({reason_of(error)})"
    return "" if names else f"its {file.name} holds no weight"


def check_loads(name: str, folder: Path, load: Any) -> None:
    """Load a policy once, so that a stage that no evaluation could read is never finished.

    Args:
        name: of the row, for the error.
        folder: of the policy.
        load: loads a folder.

    Raises:
        UserError: it cannot be loaded.
        MemoryError, OSError: as they come: they say nothing about the policy.
    """
    try:
        load(folder)
    except (MemoryError, FloatingPointError, UserError):
        raise
    except Exception as error:
        from harness.run.out_of_memory import ran_out_of_memory
        from harness.store.storage import storage_fault

        if ran_out_of_memory(error) or storage_fault(error):
            raise
        raise UserError(
            f"Method {name!r} returned a policy that cannot be loaded ({reason_of(error)}): "
            "save it with save_pretrained"
        ) from error


def _checked_log(name: str, log: Any) -> list[dict[str, float]]:
    """The training log, whose rows hold numbers by name."""
    if not isinstance(log, list):
        raise UserError(f"Method {name!r} made context.log {shown(log)}: append rows of numbers to it")
    for number, row in enumerate(log, 1):
        values = row.values() if isinstance(row, Mapping) else [None]
        if not all(isinstance(value, Real) for value in values) or not all(isinstance(key, str) for key in row):
            raise UserError(f"Method {name!r} wrote {shown(row)} as row {number} of context.log: write numbers by name")
    return log


def _take(folder: Path, work: Path) -> None:
    """Let a policy's folder be ``policy`` in the work folder: moved from inside of it, else copied."""
    target, taken = work / "policy", work / "policy.taken"
    if folder.resolve() == target.resolve() and not target.is_symlink():
        return
    shutil.rmtree(taken, ignore_errors=True)
    inside = folder.resolve().is_relative_to(work.resolve())
    kept_too = inside and folder.resolve().is_relative_to((work / FRACTIONS).resolve())
    if inside and not kept_too and not any(path.is_symlink() for path in (folder, *folder.rglob("*"))):
        folder.rename(taken)
    else:
        shutil.copytree(folder, taken, ignore=shutil.ignore_patterns(f"{CHECKPOINT}*", "optimizer.pt"))
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    taken.rename(target)
