"""What the benchmarks share: reading a mini set, asking a policy for greedy chat answers, filling a prompt."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.benchmark import BenchmarkOptions, EvalContext, Row
from sail.types import Request

if TYPE_CHECKING:
    from harness.policy import Policy

Messages = list[dict[str, str]]


class ChatOptions(BenchmarkOptions):
    """``limit``: first items only (0: all). ``max_new_tokens``: longest answer."""

    max_new_tokens: int = Field(default=96, gt=0)
    limit: int = Field(default=0, ge=0)


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


def greedy(policy: Policy, conversations: Sequence[Messages], max_new_tokens: int) -> list[Request]:
    """Requests for greedy answers to conversations, by the policy's chat template."""
    return [Request(policy.render(turns), max_new_tokens, 0.0) for turns in conversations]


def answers(context: EvalContext, requests: Sequence[Request], policy: Any = None) -> list[Row]:
    """Answers to requests: ``text``, ``tokens`` and ``truncated``."""
    policy = policy or context.policy
    context.expect(len(requests))
    with policy.meter.phase("eval"):
        completions = policy.sample(requests, context.progress)
    return [{"text": policy.text(c), "tokens": len(c.ids), "truncated": not c.stopped} for c in completions]


def wins(first: float, second: float) -> float:
    """1 if the first number is higher, 0 if the second is, one half if they are equal."""
    return 0.5 + 0.5 * ((first > second) - (first < second))


def known(value: float) -> float | None:
    """The number, or None for NaN."""
    return None if value != value else value


def rounded(value: float | None) -> float | None:
    """To six decimals, if there is a value."""
    return None if value is None else round(value, 6)


def filled(template: str, values: dict[str, str]) -> str:
    """The template with ``{name}`` replaced, in one pass: braces elsewhere, and in the values, stay."""
    return re.sub("|".join(re.escape("{" + k + "}") for k in values), lambda m: values[m.group()[1:-1]], template)
