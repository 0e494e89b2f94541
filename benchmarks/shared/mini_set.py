"""Mini sets: our own small question files, shipped with the package."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

from harness.benchmark import Row


def read_mini_set(package: str, name: str, limit: int = 0) -> list[Row]:
    """Rows of ``benchmarks/<package>/mini/<name>.jsonl``.

    Args:
        package: folder of the benchmark.
        name: file name without its ending.
        limit: first rows only (0: all).
    """
    rows = [json.loads(line) for line in _text(package, name).split("\n") if line]
    return rows[:limit] if limit else rows


def mini_set_hash(package: str, *names: str) -> str:
    """sha256 (16 hex digits) of a mini set's files, part of a protocol."""
    return hashlib.sha256("".join(_text(package, name) for name in names).encode()).hexdigest()[:16]


def _text(package: str, name: str) -> str:
    return (files("benchmarks") / package / "mini" / f"{name}.jsonl").read_text(encoding="utf-8")
