"""Damage to files, as disks, copies and people do it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.store.notices import listening

DAMAGES = ("missing", "empty", "halved", "flipped")


def damage(path: Path, how: str) -> None:
    """Remove a file or folder, empty it, cut it in half, or flip one bit in its middle."""
    if path.is_dir():
        shutil.rmtree(path)
        return
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if how == "missing":
        path.unlink()
        return
    if how == "flipped":
        content[middle] ^= 1
    path.write_bytes({"empty": b"", "halved": bytes(content[:middle]), "flipped": bytes(content)}[how])


@contextmanager
def notices() -> Iterator[list[str]]:
    """The sentences about damage while the context lasts."""
    heard: list[str] = []
    with listening(heard.append):
        yield heard
