"""JSON files that say whether they are as they were written: each holds a hash of the rest of it, and has a copy.

A file without a hash is of an earlier version and is taken as it is. One that is damaged or missing is made again from
its copy, with a sentence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.store.json_files import json_text, write_json
from harness.store.notices import notify

SEAL = "seal"


def seal_of(value: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of a value, its own seal left out."""
    stored = json.loads(json_text({name: part for name, part in value.items() if name != SEAL}))
    text = json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def copy_of(path: Path) -> Path:
    """Where the copy of a sealed file is."""
    return path.with_name(f".{path.name}.copy")


def write_sealed(path: Path, value: Mapping[str, Any], *, copy: bool = True) -> None:
    """Write a JSON object with its seal, atomically; the copy first, so that a file that is there has one.

    Args:
        path: of the file.
        value: what it holds.
        copy: whether it is worth a copy; a cache is not.
    """
    sealed = {**value, SEAL: seal_of(value)}
    if copy:
        write_json(copy_of(path), sealed)
    write_json(path, sealed)


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What a sealed file holds, without its seal; None if the file and its copy are missing or damaged."""
    value, copy = _intact(path), copy_of(path)
    if value is not None and (SEAL in value or not copy.is_file()):
        return {name: part for name, part in value.items() if name != SEAL}
    kept = _intact(copy)
    if kept is None or SEAL not in kept:
        return value
    with suppress(OSError):
        write_json(path, kept)
    notify(f"{path} was damaged: it is made again from its copy")
    return {name: part for name, part in kept.items() if name != SEAL}


def remove_sealed(path: Path) -> None:
    """Remove a sealed file and its copy, if they are there."""
    path.unlink(missing_ok=True)
    copy_of(path).unlink(missing_ok=True)


def _intact(path: Path) -> dict[str, Any] | None:
    """A JSON object whose seal, if it has one, is right; None for anything else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or (SEAL in value and value[SEAL] != seal_of(value)):
        return None
    return value
