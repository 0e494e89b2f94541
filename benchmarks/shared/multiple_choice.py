"""Multiple choice by log-likelihood: an option's tokens are encoded together with its context, then split off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import Field

from harness.benchmark import BenchmarkOptions, EvalContext, EvalCost
from harness.budget.forecast import text_tokens
from harness.score.validity import Invalid, value_or_reason


class ChoiceOptions(BenchmarkOptions):
    """``limit``: first items only (0: all)."""

    limit: int = Field(default=0, ge=0)


class ChoiceQuestion(NamedTuple):
    """The text before an option, and the texts of all options, which begin with a space."""

    prompt: str
    options: Sequence[str]


def reading_cost(questions: Sequence[ChoiceQuestion], *, single_tokens: bool = False) -> EvalCost:
    """What it costs to score all options.

    Args:
        questions: with their options.
        single_tokens: whether one forward serves all options of a question.
    """
    read = 0
    for question in questions:
        prompt = text_tokens([question.prompt], template=0)
        options = text_tokens(question.options, template=0)
        read += prompt + len(question.options) if single_tokens else prompt * len(question.options) + options
    return EvalCost(0, 0, read, common=1.0)


class EncodedOption(NamedTuple):
    """Token ids of the context, and of the option that continues it."""

    context: list[int]
    continuation: list[int]


def encode_option(tokenizer: Any, context: str, option: str) -> EncodedOption:
    """Token ids split as lm-eval splits them: trailing spaces of the context belong to the option.

    Args:
        tokenizer: the policy's; no special tokens are added.
        context: the text before the option.
        option: the text that continues it.
    """
    spaces = len(context) - len(context.rstrip())
    if spaces:
        option, context = context[-spaces:] + option, context[:-spaces]
    context_ids: list[int] = tokenizer.encode(context, add_special_tokens=False)
    all_ids: list[int] = tokenizer.encode(context + option, add_special_tokens=False)
    return EncodedOption(context_ids, all_ids[len(context_ids) :])


def option_logps(context: EvalContext, questions: Sequence[ChoiceQuestion]) -> list[list[float]]:
    """Summed log-likelihood (nats) of each option of each question.

    Where the options of all questions are the same single tokens, one forward serves all options of a question.
    """
    policy = context.policy
    encoded = [[encode_option(policy.tokenizer, q.prompt, option) for option in q.options] for q in questions]
    single = all(len(option.continuation) == 1 for options in encoded for option in options)
    token_sets = {tuple(option.continuation[0] for option in options) for options in encoded} if single else set()
    with policy.meter.phase("eval"):
        if len(token_sets) == 1:
            contexts = [options[0].context for options in encoded]
            return policy.next_token_logps(contexts, next(iter(token_sets)), context.scoring_batch_size)
        flat = [option for options in encoded for option in options]
        values = iter(policy.summed_logps(flat, context.scoring_batch_size))
    return [[next(values) for _ in options] for options in encoded]


def is_right(picked: int, answer: int, logps: Sequence[float]) -> int | Invalid:
    """Whether the option picked is the answer, 1 or 0; a reason where an option has no finite log-likelihood, so that
    nothing was picked.

    Args:
        picked: index of an option.
        answer: index of the right one.
        logps: log-likelihood (nats) of each option.
    """
    invalid = next((v for v in map(value_or_reason, logps) if isinstance(v, Invalid)), None)
    return int(picked == answer) if invalid is None else invalid


def argmax(values: Sequence[float]) -> int:
    """Index of the highest value, the first of equals."""
    return max(range(len(values)), key=lambda i: (values[i], -i))
