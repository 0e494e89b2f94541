"""A file of named arrays of numbers that saves computing: with a checksum, and safe to delete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.store.hosts import writer

_CHECKSUM = 32


def read_arrays(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read-only arrays by name; none if the file is absent, or if it does not hold what was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    data = memoryview(content)[_CHECKSUM:]
    if content[:_CHECKSUM] != _checksum(data):
        return {}
    names, _, _ = content[_CHECKSUM:].partition(b"\n")
    sizes: dict[str, int] = json.loads(names)
    if not sizes:
        return {}
    numbers = np.frombuffer(data[len(names) + 1 :], dtype="<f8")
    ends = np.cumsum(list(sizes.values()))
    return dict(zip(sizes, np.split(numbers, ends[:-1]), strict=True))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.float64]]) -> None:
    """Write one-dimensional arrays atomically. A folder that cannot be written is left as it is.

    Args:
        path: the file.
        arrays: by name.
    """
    names = json.dumps({name: len(array) for name, array in arrays.items()}).encode()
    names += b" " * (-(len(names) + 1) % 8) + b"\n"  # so that the numbers are aligned
    data = names + np.concatenate([*arrays.values(), np.zeros(0)]).astype("<f8").tobytes()
    part = path.with_name(f"{path.name}.{writer()}.part")
    try:
        part.write_bytes(_checksum(data) + data)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()


def _checksum(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM).digest()
