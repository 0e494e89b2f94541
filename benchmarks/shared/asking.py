"""Asking a policy for chat answers, and filling a prompt template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from harness.answer.chat import Messages, messages_of
from harness.benchmark import BenchmarkOptions, EvalContext, Row
from sail.types import Completion, Request

if TYPE_CHECKING:
    from harness.answer.policy import Policy


class ChatOptions(BenchmarkOptions):
    """``limit``: first items only (0: all). ``max_new_tokens``: longest answer."""

    max_new_tokens: int = Field(default=96, gt=0)
    limit: int = Field(default=0, ge=0)


def greedy_requests(policy: Policy, conversations: Sequence[Messages], max_new_tokens: int) -> list[Request]:
    """Requests for greedy answers.

    Args:
        policy: its chat template writes the conversations.
        conversations: each ends with a turn of the user.
        max_new_tokens: longest answer.
    """
    return [Request(policy.render(messages), max_new_tokens, 0.0) for messages in conversations]


def task_requests(policy: Policy, prompts: Sequence[Row], max_new_tokens: int) -> list[Request]:
    """Requests for one answer at temperature 1 to each of the recipe's evaluation prompts. The noise is keyed by the
    prompt alone, so that all policies and benchmarks sample with the same.

    Args:
        policy: its chat template writes the prompts.
        prompts: rows with ``id`` and ``prompt`` or ``messages``.
        max_new_tokens: longest answer.
    """
    return [Request(policy.render(messages_of(p)), max_new_tokens, 1.0, ("preference", p["id"])) for p in prompts]


def sample_answers(context: EvalContext, requests: Sequence[Request], policy: Policy | None = None) -> list[Row]:
    """Answers to requests as rows of a file: ``text``, ``tokens`` (their number) and ``truncated``.

    Thoughts are left out unless the policy keeps them; ``thoughts`` then says how many characters they had, and
    ``replaced`` how many characters of the text stand for some that no store takes. Most answers have neither key.

    Args:
        context: its progress counts the answers.
        requests: one for each answer.
        policy: who answers, if it is not the policy under test.
    """
    policy = policy or context.policy
    context.expect(len(requests))
    with policy.meter.phase("eval"):
        completions = policy.sample(requests, context.progress)
    return [_answer_row(policy, c, request) for c, request in zip(completions, requests, strict=True)]


def _answer_row(policy: Policy, completion: Completion, request: Request) -> Row:
    final, tokens = policy.final(completion, request), len(completion.ids)
    row: Row = {"text": final.text, "tokens": tokens, "truncated": final.truncated}
    if final.thoughts:
        tokens = len(policy.tokenizer(final.text, add_special_tokens=False)["input_ids"]) if final.text else 0
        row |= {"tokens": tokens, "thoughts": final.thoughts}
    replaced = getattr(completion, "replaced", 0)
    return row | {"replaced": replaced} if replaced else row


def second_turn(question: Sequence[str], answer: str) -> Messages:
    """The dialogue that asks the second of a question's two turns.

    Args:
        question: both turns of it.
        answer: to the first.
    """
    return [
        {"role": "user", "content": question[0]},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": question[1]},
    ]


def fill_template(template: str, values: dict[str, str]) -> str:
    """The template with each ``{name}`` replaced in one pass: braces elsewhere, and inside the values, stay."""
    names = "|".join(re.escape("{" + name + "}") for name in values)
    return re.sub(names, lambda match: values[match.group()[1:-1]], template)
