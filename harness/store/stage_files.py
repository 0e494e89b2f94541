"""The folder of a finished stage: its manifest with sizes and hashes of its files, and what is wrong with it, if
anything is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.store.integrity import (
    LARGE,
    Stamp,
    content_files,
    fault_of_files,
    record_files,
    stamp_of,
)
from harness.store.json_files import digest
from harness.store.sealed import read_sealed, write_sealed

MANIFEST = "manifest.json"
FILES, UNVERIFIED = "files", "unverified"
"""Entries of a manifest: sizes and hashes of its files; and whether these were recorded only when a later version first
read them."""

_manifests: dict[Stamp, dict[str, Any]] = {}
_parsed: set[Stamp] = set()
"""Files of stages without hashes that could be parsed."""


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Manifest of a stage, read once a process as long as it does not change; None if it is missing or damaged."""
    path = folder / MANIFEST
    try:
        stamp = stamp_of(path)
    except OSError:
        return read_sealed(path)
    if stamp not in _manifests:
        manifest = read_sealed(path)
        if manifest is None:
            return None
        _manifests[stamp] = manifest
    return _manifests[stamp]


def write_manifest(folder: Path, entries: dict[str, Any], leave_out: tuple[str, ...] = ()) -> None:
    """Write the manifest of a stage that is built, once its files are on the disk.

    Args:
        folder: of the stage.
        entries: of the manifest.
        leave_out: names of files that are no part of the stage.
    """
    files = record_files(folder, leave_out=(MANIFEST, *leave_out), sync=True)
    write_sealed(folder / MANIFEST, entries | {FILES: files})


def fault_of(folder: Path, *, whole: bool = True) -> str:
    """What is wrong with a stage; nothing if it is as it was written, or as far as can be known.

    Args:
        folder: of the stage.
        whole: whether files above :data:`~harness.store.integrity.LARGE` are hashed too.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return f"{MANIFEST} is missing or damaged"
    if FILES in manifest:
        return fault_of_files(folder, manifest[FILES], whole=whole)
    return _unparsable(folder)


def unrecorded(folder: Path, *, whole: bool = True) -> bool:
    """Whether a stage, of an earlier version, has no hashes yet and can get them now.

    Args:
        folder: of the stage.
        whole: whether large stages count, which take time.
    """
    manifest = read_manifest(folder)
    if manifest is None or FILES in manifest:
        return False
    return whole or sum(path.stat().st_size for path in content_files(folder)) <= LARGE


def record_now(folder: Path) -> None:
    """Give a stage of an earlier version the hashes that its files have now: from here on damage is seen."""
    manifest = read_manifest(folder) or {}
    files = record_files(folder, leave_out=(MANIFEST,))
    write_sealed(folder / MANIFEST, manifest | {FILES: files, UNVERIFIED: True})


def content_hash(folder: Path, *patterns: str) -> str:
    """One hash of files of a stage, from its manifest; "" where none is recorded.

    Args:
        folder: of the stage.
        patterns: which files, as for :meth:`pathlib.PurePath.match`.
    """
    files = (read_manifest(folder) or {}).get(FILES, {})
    chosen = {name: entry[1] for name, entry in files.items() if any(Path(name).match(p) for p in patterns)}
    return digest(chosen) if chosen else ""


def changed_weights(folder: Path, earlier: Mapping[str, list[int | str]]) -> str:
    """Which weights of a stage are not those that it had before; nothing if all are.

    Args:
        folder: of the stage as it is now.
        earlier: sizes and hashes of its files before.
    """
    files = (read_manifest(folder) or {}).get(FILES, {})
    weights = [name for name in earlier if name.endswith(".safetensors")]
    return next((name for name in weights if files.get(name, [0, ""])[1] != earlier[name][1]), "")


def _unparsable(folder: Path) -> str:
    """Which JSON file of a stage is cut or broken; nothing if none is."""
    for path in content_files(folder):
        try:
            if (stamp := stamp_of(path)) in _parsed:
                continue
            if path.suffix == ".json":
                json.loads(path.read_bytes())
            elif path.suffix == ".jsonl":
                with path.open("rb") as lines:
                    for line in lines:
                        json.loads(line if line.strip() else b"0")
            _parsed.add(stamp)
        except (OSError, ValueError, RecursionError):
            return f"{path.relative_to(folder).as_posix()} is cut or damaged"
    return ""
