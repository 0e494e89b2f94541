"""What the benchmarks share: reading a mini set, asking a policy for greedy chat answers, filling a prompt."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

from pydantic import Field

from harness.benchmark import BenchmarkOptions, Row


class ChoiceOptions(BenchmarkOptions):
    """``limit``: first items only (0: all)."""

    limit: int = Field(default=0, ge=0)


def mini(package: str, name: str, limit: int = 0) -> list[Row]:
    """Rows of a mini set (``benchmarks/<package>/mini/<name>.jsonl``)."""
    text = _text(package, name)
    rows = [json.loads(line) for line in text.split("\n") if line]
    return rows[:limit] if limit else rows


def mini_hash(package: str, *names: str) -> str:
    """sha256 (16 hex digits) of the mini set's files, part of a protocol."""
    return hashlib.sha256("".join(_text(package, name) for name in names).encode()).hexdigest()[:16]


def _text(package: str, name: str) -> str:
    return (files("benchmarks") / package / "mini" / f"{name}.jsonl").read_text(encoding="utf-8")
