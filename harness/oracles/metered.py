"""An oracle as methods and benchmarks see it: every call is charged to a ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import combinations
from typing import Any, NamedTuple

from harness.answer.chat import Prompt
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError, shown
from harness.oracles.base import NoVerdict, Oracle


class VersusBaseline(NamedTuple):
    """Rewards of answers and of the baseline's answers, prompt by prompt; NaN where there is no verdict."""

    rewards: list[float]
    baseline_rewards: list[float]


def checked_numbers(oracle: Oracle, function: str, count: int, answers: Any) -> list[float]:
    """What an oracle answered, if it is as many numbers as were asked for; those of ``prefer`` are probabilities.

    Args:
        oracle: that answered.
        function: ``score`` or ``prefer``.
        count: numbers asked for.
        answers: of any type. A NaN stands where there is no verdict.

    Raises:
        UserError: it is something else.
    """
    question = f"The oracle {oracle.name!r} was asked for {count:,} numbers, and {function}() returned"
    fix = "correct it to return a list of one number for each answer, and NaN where there is none"
    try:
        listed = list(answers)
    except TypeError:
        raise UserError(f"{question} {shown(answers)}: {fix}") from None
    if isinstance(answers, str | dict):
        raise UserError(f"{question} {shown(answers)}: {fix}")
    if len(listed) != count:
        raise UserError(f"{question} {len(listed):,}: {fix}")
    numbers = [value if isinstance(value, float) else _number(value) for value in listed]
    for place, number in enumerate(numbers):
        if number is None or (function == "prefer" and not (math.isnan(number) or 0 <= number <= 1)):
            what = "a probability" if function == "prefer" else "a number"
            raise UserError(f"{question} {shown(listed[place])} as number {place + 1}, which is not {what}: {fix}")
    return [number for number in numbers if number is not None]


def _number(value: Any) -> float | None:
    """A number of another type (an integer, of numpy, of torch) as a float; None if it is none."""
    if value is None or isinstance(value, str | bytes | bool):
        return None
    try:
        return float(value)
    except Exception:  # noqa: BLE001 - of any class
        return None


class MeteredOracle:
    """An oracle whose calls are charged: one for each scored response, two (both orders) for each compared pair.

    Args:
        oracle: answers the calls.
        ledger: is charged with ``calls`` and ``undecided``, and with ``undecided: REASON`` where a reason is known.
        meter: if given, time and forward passes are charged as well.
        phase: phase of the ledger, unless the meter charges another one by name at the time.
    """

    def __init__(self, oracle: Oracle, ledger: Ledger, meter: Meter | None = None, phase: str = "oracle") -> None:
        self._oracle, self._ledger, self._meter, self._phase = oracle, ledger, meter, phase

    @property
    def unit(self) -> str:
        """What a reward is measured in."""
        return self._oracle.unit

    @property
    def pairwise(self) -> bool:
        """Whether it compares answers instead of scoring them."""
        return self._oracle.pairwise

    @contextmanager
    def _charged(self, calls: int) -> Iterator[None]:
        named = self._meter.current if self._meter else None
        with self._meter.phase(self._phase) if self._meter and named is None else nullcontext():
            yield
        self._ledger.add(named or self._phase, "calls", calls)

    def score(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """Reward of each text as an answer to the prompt of its row. Not for pairwise oracles."""
        with self._charged(len(texts)):
            return checked_numbers(self._oracle, "score", len(texts), self._oracle.score(rows, texts))

    def prefer(self, rows: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        """Labels for training: the probability that the first answer is better, for each pair.

        A pair without a verdict is a tie (0.5), and the ledger counts it as ``undecided``, once more by its reason.

        Args:
            rows: the prompt of each pair.
            firsts: one answer to each prompt.
            seconds: another answer to each prompt.
        """
        probabilities = self._compare(rows, firsts, seconds)
        phase = (self._meter.current if self._meter else None) or self._phase
        for undecided in filter(math.isnan, probabilities):
            self._ledger.add(phase, "undecided", 1)
            if isinstance(undecided, NoVerdict):
                self._ledger.add(phase, f"undecided: {undecided.reason}", 1)
        return [0.5 if math.isnan(p) else p for p in probabilities]

    def _compare(self, rows: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        with self._charged(2 * len(rows)):
            return checked_numbers(self._oracle, "prefer", len(rows), self._oracle.prefer(rows, firsts, seconds))

    def rank(self, row: Prompt, texts: Sequence[str]) -> list[float]:
        """A number for each of several answers to one prompt: its score, or its mean win over the others."""
        if not self._oracle.pairwise:
            return self.score([row] * len(texts), texts)
        pairs = list(combinations(range(len(texts)), 2))
        wins = self.prefer([row] * len(pairs), [texts[i] for i, _ in pairs], [texts[j] for _, j in pairs])
        total = [0.0] * len(texts)
        for (i, j), probability in zip(pairs, wins, strict=True):
            total[i] += probability
            total[j] += 1 - probability
        return [value / (len(texts) - 1) for value in total]

    def versus(self, rows: Sequence[Prompt], texts: Sequence[str], baseline: Sequence[str]) -> VersusBaseline:
        """Rewards of answers beside those of a baseline: scores, or win shares against the baseline (which has 0.5).

        Args:
            rows: the prompts.
            texts: one answer to each prompt.
            baseline: the baseline's answer to each prompt.
        """
        if not self._oracle.pairwise:
            return VersusBaseline(self.score(rows, texts), self.score(rows, baseline))
        return VersusBaseline(self._compare(rows, texts, baseline), [0.5] * len(rows))
