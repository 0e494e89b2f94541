"""Asking a policy for chat answers, and filling a prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.benchmark import BenchmarkOptions, EvalContext, Row
from sail.types import Request

if TYPE_CHECKING:
    from harness.answer.policy import Policy


Messages = list[dict[str, str]]


class ChatOptions(BenchmarkOptions):
    """``limit``: first items only (0: all). ``max_new_tokens``: longest answer."""

    max_new_tokens: int = Field(default=96, gt=0)
    limit: int = Field(default=0, ge=0)


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


def filled(template: str, values: dict[str, str]) -> str:
    """The template with ``{name}`` replaced, in one pass: braces elsewhere, and in the values, stay."""
    return re.sub("|".join(re.escape("{" + k + "}") for k in values), lambda m: values[m.group()[1:-1]], template)
