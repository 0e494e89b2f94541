"""Budgets: what a run may spend. One matched axis, and caps on others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.budget.ledger import Ledger
from harness.budget.spec import BudgetSpec


@dataclass(frozen=True)
class Budget:
    """A named, versioned limit on one axis of :data:`harness.budget.ledger.AXES`, with caps on others.

    ``free_data``: the recipe declares the stored pairs free; they then count towards no axis, and the ledger still
    holds them.
    """

    name: str
    axis: str
    limit: float
    caps: dict[str, float] = field(default_factory=dict)
    version: int = 1
    free_data: bool = False

    @classmethod
    def of(cls, name: str, spec: BudgetSpec, *, free_data: bool = False) -> Budget:
        """From a recipe's entry or a named one."""
        return cls(
            name,
            spec.axis,
            spec.limit,
            {axis: float(v) if v % 1 else int(v) for axis, v in spec.caps.items()},
            spec.version,
            free_data,
        )

    def key(self) -> list[Any]:
        """What of it can change a run: as earlier versions wrote it where nothing new is used."""
        return [self.axis, self.limit, *([self.caps] if self.caps else []), *(["free data"] if self.free_data else [])]

    def trains_like(self, pairs_per_step: int) -> list[Any]:
        """As :meth:`key`, but the same for budgets that buy the same training: so many steps are so many pairs."""
        if self.axis == "steps" and not self.caps:
            return ["pairs", self.limit * pairs_per_step]
        return self.key()

    def steps(self, pairs_per_step: int) -> int | None:
        """Most optimiser steps that it can buy; None if neither ``steps`` nor ``pairs`` is limited. 0 means that it
        cannot buy one step."""
        limits = {self.axis: self.limit} | self.caps
        found = [limits["steps"]] if "steps" in limits else []
        if "pairs" in limits:
            found.append(limits["pairs"] // pairs_per_step)
        return int(min(found)) if found else None

    def spent(self, ledger: Ledger, axis: str | None = None) -> float:
        """Spending on an axis (the matched one)."""
        return ledger.spent(axis or self.axis, free_data=self.free_data)

    def share(self, ledger: Ledger) -> float:
        """The share of the budget that is spent: of the matched limit, or of the cap that is nearest to it."""
        limits = {self.axis: self.limit} | self.caps
        return max(self.spent(ledger, axis) / limit for axis, limit in limits.items())

    def stopped_by(self, ledger: Ledger) -> str:
        """The limit that ended a run: the matched axis, a cap, or "" while none is reached."""
        limits = {self.axis: self.limit} | self.caps
        return next((axis for axis, limit in limits.items() if self.spent(ledger, axis) >= limit), "")
