"""The embedded judge: the start policy itself, answering by log-probability.

Weak but not random, free and offline. Pairwise verdicts are always asked in both orders. Its numbers are comparable
with nothing but themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.answer.chat import render, takes_system
from harness.answer.policy import Policy
from harness.judge.prompts import COMPARE, COMPARE_OPENING, RATE, RATE_OPENING, REFERENCE, SCALE, SYSTEM


class _Answer(NamedTuple):
    """``shares``: of the options among themselves. ``mass``: probability of all options together."""

    shares: list[float]
    mass: float


class LocalJudge:
    """Puts questions to the start policy; every verdict is cached.

    Args:
        policy: the start policy.
        batch_size: rows of a forward pass.
    """

    def __init__(self, policy: Policy, batch_size: int = 16) -> None:
        self._policy = policy
        self._batch = batch_size
        self._has_system = takes_system(policy.tokenizer)

    def _context(self, text: str, opening: str) -> list[int]:
        tokenizer = self._policy.tokenizer
        if self._has_system:
            turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        else:
            turns = [{"role": "user", "content": f"{SYSTEM}\n\n{text}"}]
        return [*render(tokenizer, turns), *tokenizer.encode(opening, add_special_tokens=False)]

    def _ids(self, opening: str, options: Sequence[str]) -> list[int]:
        tokenizer = self._policy.tokenizer
        prefix = tokenizer.encode(opening, add_special_tokens=False)
        encoded = [tokenizer.encode(opening + o, add_special_tokens=False) for o in options]
        ids = [next(iter(e[len(prefix) :])) for e in encoded]
        if len(set(ids)) < len(ids):  # a byte-level tokenizer opens every option with the same space
            ids = [tokenizer.encode(o.strip(), add_special_tokens=False)[0] for o in options]
        return ids

    def _ask(self, contexts: list[list[int]], opening: str, options: Sequence[str]) -> list[_Answer]:
        with self._policy.meter.phase("judge"):
            logps = self._policy.next_token_logps(contexts, self._ids(opening, options), self._batch)
            self._policy.meter.ledger.add("judge", "calls", len(contexts))
        answers = []
        for row in logps:
            mass = [math.exp(v) for v in row]
            total = sum(mass)
            answers.append(_Answer([m / total if total else math.nan for m in mass], total))
        return answers

    def tokens(self, row: tuple[str, str, str]) -> int:
        """Tokens of a comparison as it is asked, in one order."""
        question, first, second = row
        return len(self._context(COMPARE.format(question=question, first=first, second=second), COMPARE_OPENING))

    def compare(self, rows: Sequence[tuple[str, str, str]]) -> list[dict[str, float]]:
        """Verdicts on (question, first answer, second answer), as JSON records for judged rows.

        Returns:
            ``first``: probability that the first answer is better, averaged over both orders; ``shown_first``:
            probability given to slot A, averaged over the orders (0.5 is no position bias); ``mass``: probability of
            answering A or B at all.
        """
        both = [(q, a, b) for q, a, b in rows] + [(q, b, a) for q, a, b in rows]
        contexts = [self._context(COMPARE.format(question=q, first=a, second=b), COMPARE_OPENING) for q, a, b in both]
        answers = self._ask(contexts, COMPARE_OPENING, (" A", " B"))
        count = len(rows)
        return [
            {
                "first": (forward.shares[0] + backward.shares[1]) / 2,
                "shown_first": (forward.shares[0] + backward.shares[0]) / 2,
                "mass": (forward.mass + backward.mass) / 2,
            }
            for forward, backward in zip(answers[:count], answers[count:], strict=True)
        ]

    def rate(self, rows: Sequence[tuple[str, str, str]]) -> list[dict[str, float]]:
        """Ratings of (question, answer, reference or an empty string), as JSON records for judged rows.

        Returns:
            ``rating``: expected rating from 1 to 9; ``mass``: probability of answering with a rating at all.
        """
        contexts = []
        for question, answer, reference in rows:
            shown = REFERENCE.format(reference=reference) if reference else ""
            contexts.append(self._context(RATE.format(question=question, answer=answer, reference=shown), RATE_OPENING))
        answers = self._ask(contexts, RATE_OPENING, [str(s) for s in SCALE])
        return [
            {"rating": sum(s * p for s, p in zip(SCALE, shares, strict=True)), "mass": mass} for shares, mass in answers
        ]
