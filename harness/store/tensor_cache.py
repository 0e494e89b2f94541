"""Tensors on disk that save computing: a cache of limited size, which processes share."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store.hosts import writer

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN_STATES = "hidden-states"
"""Folder in a store: outputs of the blocks that all policies of a comparison share."""

LIMIT = 2**30
"""Bytes of all files of a cache; what would pass it is not kept."""

CHECKSUM_BYTES = 4


class TensorCache:
    """Maps a key to named tensors, one file a key. A damaged file counts as absent, and a full disk as a full cache.

    Args:
        folder: made when the first tensors are kept.
        limit: bytes of all files.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self._limit = folder, limit

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Tensors by name, on the CPU; None if they are absent."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(key)
        try:
            checksum, data = (content := path.read_bytes())[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
            if checksum == _checksum(data):
                return load(data)
        except (OSError, SafetensorError):
            return None
        with suppress(OSError):
            path.unlink()
        return None

    def put(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors, unless the cache is full."""
        from safetensors.torch import save

        data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        path = self._path(key)
        partial = path.with_suffix(f".{writer()}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._size() + CHECKSUM_BYTES + len(data) > self._limit:
                return
            with partial.open("wb") as file:
                file.write(_checksum(data))
                file.write(data)
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.tensors"

    def _size(self) -> int:
        """Bytes of all files."""
        total = 0
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # renamed or removed by another process
                total += entry.stat().st_size
        return total


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "little")
