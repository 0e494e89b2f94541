"""An oracle as methods and benchmarks see it: every call is charged to a ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import combinations

from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.oracles.base import Oracle, Row


class MeteredOracle:
    """An oracle whose calls are charged: one for each scored response, two (both orders) for each compared pair. With a
    meter its time and forwards are charged as well, to ``phase``, or to the phase that is charged by name."""

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
    def _asked(self, calls: int) -> Iterator[None]:
        named = self._meter.current if self._meter else None
        with self._meter.phase(self._phase) if self._meter and named is None else nullcontext():
            yield
        self._ledger.add(named or self._phase, "calls", calls)

    def score(self, rows: Sequence[Row], texts: Sequence[str]) -> list[float]:
        """Scores of the texts as answers to the prompts ``rows``; not for pairwise oracles."""
        with self._asked(len(texts)):
            return self._oracle.score(rows, texts)

    def prefer(self, rows: Sequence[Row], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        """Labels for training: the probability that the first answer is better, for each pair. One without a verdict
        is a tie, and the ledger counts it as ``undecided``."""
        found = self._compared(rows, firsts, seconds)
        undecided = sum(p != p for p in found)
        if undecided:
            named = self._meter.current if self._meter else None
            self._ledger.add(named or self._phase, "undecided", undecided)
        return [0.5 if p != p else p for p in found]

    def _compared(self, rows: Sequence[Row], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        with self._asked(2 * len(rows)):
            return self._oracle.prefer(rows, firsts, seconds)

    def rank(self, row: Row, texts: Sequence[str]) -> list[float]:
        """A number for each of several answers to one prompt: its score, or its mean win over the others."""
        if not self._oracle.pairwise:
            return self.score([row] * len(texts), texts)
        pairs = list(combinations(range(len(texts)), 2))
        won = self.prefer([row] * len(pairs), [texts[i] for i, _ in pairs], [texts[j] for _, j in pairs])
        total = [0.0] * len(texts)
        for (i, j), p in zip(pairs, won, strict=True):
            total[i] += p
            total[j] += 1 - p
        return [value / (len(texts) - 1) for value in total]

    def versus(self, rows: Sequence[Row], texts: Sequence[str], base: Sequence[str]) -> tuple[list[float], list[float]]:
        """Rewards of the texts and of a baseline's: scores, or win shares against that baseline (it has 0.5); NaN where
        there is no verdict."""
        if not self._oracle.pairwise:
            return self.score(rows, texts), self.score(rows, base)
        return self._compared(rows, texts, base), [0.5] * len(rows)
