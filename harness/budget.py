"""Budgets (what a run may spend), ledgers (what it spent, by phase), and the meter that fills a ledger.

The meter sits on the model's backbone and on the oracle, not in the method, so that a method cannot spend unseen.
"""

from __future__ import annotations

import resource
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from harness.oracles.base import Oracle, Row
from harness.recipe import BudgetSpec


@dataclass(frozen=True)
class Budget:
    """A named limit on one axis."""

    name: str
    axis: str
    limit: int

    @classmethod
    def of(cls, name: str, spec: BudgetSpec) -> Budget:
        """From a recipe's entry."""
        return cls(name, spec.axis, spec.limit)

    def steps(self, pairs_per_step: int) -> int:
        """Optimiser steps that fit. 0 means that the budget cannot buy one step."""
        return self.limit // pairs_per_step if self.axis == "pairs" else self.limit


@dataclass
class Ledger:
    """Spending by phase and quantity.

    Quantities: ``tokens`` (positions through the model), ``generated`` (tokens sampled), ``calls`` (oracle or judge),
    ``pairs``, ``steps``, ``seconds``.
    """

    entries: dict[str, dict[str, float]] = field(default_factory=dict)
    peak_memory_bytes: int = 0

    def add(self, phase: str, quantity: str, amount: float) -> None:
        """Charge an amount."""
        row = self.entries.setdefault(phase, {})
        row[quantity] = row.get(quantity, 0) + amount

    def get(self, phase: str, quantity: str) -> float:
        """What was spent so far."""
        return self.entries.get(phase, {}).get(quantity, 0)

    def merge(self, other: Ledger) -> Ledger:
        """A new ledger with both spendings."""
        out = Ledger({p: dict(q) for p, q in self.entries.items()})
        out.peak_memory_bytes = max(self.peak_memory_bytes, other.peak_memory_bytes)
        for phase, row in other.entries.items():
            for quantity, amount in row.items():
                out.add(phase, quantity, amount)
        return out

    def dump(self) -> dict[str, Any]:
        """JSON form; whole numbers as integers, seconds to the millisecond."""
        tidy = {
            phase: {q: round(v, 3) if q == "seconds" else int(v) for q, v in sorted(row.items())}
            for phase, row in sorted(self.entries.items())
        }
        return {"phases": tidy, "peak_memory_bytes": self.peak_memory_bytes}

    @classmethod
    def load(cls, value: dict[str, Any]) -> Ledger:
        """From its JSON form."""
        return cls({p: dict(q) for p, q in value["phases"].items()}, value["peak_memory_bytes"])

    def note_memory(self) -> None:
        """Record the peak resident memory of this process so far."""
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak)


class BudgetExceededError(RuntimeError):
    """A method went on training after its budget was spent."""


class Meter:
    """Counts what passes through a model into a ledger, by hooks on its backbone and its LM head, and the updates of
    its weights, by a hook on all optimisers.

    A forward with gradient is training; one that fills a key-value cache is generation; any other is the reference
    (or what ``phase`` says, in evaluation). A token counts as generated when the LM head scores a position of a
    forward that used a cache. Two rows of a training forward are one pair.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.budget: Budget | None = None
        self._bases: list[Any] = []
        self._phase: str | None = None
        self._since = time.perf_counter()
        self._last: tuple[str, bool] = ("reference", False)
        self._before, self._stopped = 0.0, ""

    def attach(self, model: Any) -> Any:
        """Meter a transformers model and return it."""
        base = getattr(model, model.base_model_prefix, model)
        base.register_forward_pre_hook(self._count, with_kwargs=True)
        self._bases.append(weakref.ref(base))
        model.get_output_embeddings().register_forward_pre_hook(self._count_generated)
        return model

    @contextmanager
    def enforce(self, budget: Budget) -> Iterator[None]:
        """Count every optimiser's updates of metered weights while a method trains, and stop one that goes on after the
        budget is spent: at the end of the first step that it should not have taken.

        Raises:
            BudgetExceededError: the method did; also if it swallowed the first exception.
        """
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self.budget, self._stopped = budget, ""
        handle = register_optimizer_step_post_hook(self._updated)
        self._before = self._consumed(budget)
        try:
            yield
        finally:
            handle.remove()
            self.budget = None
        if self._stopped:
            raise BudgetExceededError(self._stopped)

    def _consumed(self, budget: Budget) -> float:
        train = self.ledger.entries.get("train", {})
        return train.get("updates", 0) if budget.axis == "steps" else train.get("rows", 0) / 2

    def _updated(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        ours = {id(p) for ref in self._bases if (base := ref()) is not None for p in base.parameters()}
        if self.budget is None or not any(id(p) in ours for g in optimizer.param_groups for p in g["params"]):
            return
        before = self._before
        self.ledger.add("train", "updates", 1)
        self._before = self._consumed(self.budget)
        if before >= self.budget.limit:
            self._stopped = (
                f"ignored its budget: it trained on after {self.budget.limit} {self.budget.axis} and was stopped at "
                f"{self._before:g}"
            )
            raise BudgetExceededError(self._stopped)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time, and all forwards inside, to one phase."""
        self.flush()
        before, self._phase = self._phase, name
        try:
            yield
        finally:
            self.flush()
            self._phase = before

    def flush(self) -> None:
        """Charge the seconds of the current phase so far."""
        now = time.perf_counter()
        if self._phase is not None:
            self.ledger.add(self._phase, "seconds", now - self._since)
        self._since = now

    def _count(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            ids = kwargs["inputs_embeds"][..., 0]
        mask = kwargs.get("attention_mask")
        real = ids.numel() if mask is None else int(mask[:, -ids.shape[1] :].sum())
        cached = kwargs.get("past_key_values") is not None
        if self._phase is not None:
            phase = self._phase
        elif torch.is_grad_enabled():
            phase = "train"
        else:
            phase = "generate" if cached else "reference"
        self.ledger.add(phase, "tokens", real)
        if phase == "train":
            self.ledger.add("train", "rows", ids.shape[0])
        self._last = (phase, cached)

    def _count_generated(self, module: Any, args: tuple[Any, ...]) -> None:
        phase, cached = self._last
        if cached:
            self.ledger.add(phase, "generated", args[0].shape[0])


class MeteredOracle:
    """An oracle whose calls are charged: one for each scored response, two (both orders) for each compared pair."""

    def __init__(self, oracle: Oracle, ledger: Ledger) -> None:
        self._oracle = oracle
        self._ledger = ledger

    @property
    def unit(self) -> str:
        """What a reward is measured in."""
        return self._oracle.unit

    def score(self, rows: Sequence[Row], texts: Sequence[str]) -> list[float]:
        """Scores of the texts as answers to the prompts ``rows``; not for pairwise oracles."""
        scores = self._oracle.score(rows, texts)
        self._ledger.add("oracle", "calls", len(texts))
        return scores

    def prefer(self, rows: Sequence[Row], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        """Probability that the first answer is better, for each pair."""
        found = self._oracle.prefer(rows, firsts, seconds)
        self._ledger.add("oracle", "calls", 2 * len(rows))
        return found

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
        """Rewards of the texts and of a baseline's: scores, or win shares against that baseline (it has 0.5)."""
        if not self._oracle.pairwise:
            return self.score(rows, texts), self.score(rows, base)
        return self.prefer(rows, texts, base), [0.5] * len(rows)
