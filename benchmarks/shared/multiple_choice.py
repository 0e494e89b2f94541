"""Multiple choice by log-likelihood: the options' tokens are encoded together with their context, then split off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.benchmark import EvalContext

Encoded = tuple[list[int], list[int]]


def encode(tokenizer: Any, context: str, option: str) -> Encoded:
    """(context ids, continuation ids) as lm-eval splits them: trailing spaces of the context join the option."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        option, context = context[-spaces:] + option, context[:-spaces]
    head: list[int] = tokenizer.encode(context, add_special_tokens=False)
    whole: list[int] = tokenizer.encode(context + option, add_special_tokens=False)
    return head, whole[len(head) :]


def option_logps(context: EvalContext, items: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
    """Summed log-likelihood (nats) of each option of each item.

    Where all options of all items are single tokens, one forward an item serves all its options.
    """
    policy = context.policy
    encoded = [[encode(policy.tokenizer, text, option) for option in options] for text, options in items]
    heads = [pairs[0][0] for pairs in encoded]
    single = all(len(tail) == 1 for pairs in encoded for _, tail in pairs)
    tails = {tuple(tail[0] for _, tail in pairs) for pairs in encoded} if single else set()
    with policy.meter.phase("eval"):
        if len(tails) == 1:
            return policy.next_token_logps(heads, next(iter(tails)), context.scoring_batch_size)
        rows = [pair for pairs in encoded for pair in pairs]
        values = [sum(v) for v in policy.token_logps(rows, context.scoring_batch_size)]
    out, start = [], 0
    for pairs in encoded:
        out.append(values[start : start + len(pairs)])
        start += len(pairs)
    return out


def argmax(values: Sequence[float]) -> int:
    """Index of the highest value, the first of equals."""
    return max(range(len(values)), key=lambda i: (values[i], -i))
