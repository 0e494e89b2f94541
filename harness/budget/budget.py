"""Budgets: what a run may spend. One matched axis, and caps on others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.budget.ledger import Ledger
from harness.budget.spec import BudgetSpec


@dataclass(frozen=True)
class Budget:
    """A named, versioned limit on one axis of :data:`harness.budget.ledger.AXES`, with caps on others.

    Attributes:
        name: in the recipe, or among the named budgets.
        axis: the matched axis, on which all methods of a comparison spend alike.
        limit: on the matched axis, in its unit.
        caps: limits on other axes, by axis.
        version: raised when a named budget changes.
        free_data: the recipe declares the stored pairs free: they count towards no axis, though the ledger holds them.
    """

    name: str
    axis: str
    limit: float
    caps: dict[str, float] = field(default_factory=dict)
    version: int = 1
    free_data: bool = False

    @classmethod
    def of(cls, name: str, spec: BudgetSpec, *, free_data: bool = False) -> Budget:
        """The budget that a recipe's entry, or a named one, states.

        Args:
            name: of the entry.
            spec: the entry.
            free_data: whether the recipe declares the stored pairs free.
        """
        return cls(
            name,
            spec.axis,
            spec.limit,
            {axis: float(v) if v % 1 else int(v) for axis, v in spec.caps.items()},
            spec.version,
            free_data,
        )

    @property
    def limits(self) -> dict[str, float]:
        """All limits by axis, the matched one first."""
        return {self.axis: self.limit} | self.caps

    def key(self) -> list[Any]:
        """The part of it that can change a run, for stage keys; options at their defaults are left out of it."""
        return [self.axis, self.limit, *([self.caps] if self.caps else []), *(["free data"] if self.free_data else [])]

    def trains_like(self, pairs_per_step: int) -> list[Any]:
        """As :meth:`key`, but the same for budgets that buy the same training: so many steps are so many pairs."""
        if self.axis == "steps" and not self.caps:
            return ["pairs", self.limit * pairs_per_step]
        return self.key()

    def steps(self, pairs_per_step: int) -> int | None:
        """Most optimiser steps that it can buy (perhaps 0); None if neither ``steps`` nor ``pairs`` is limited."""
        limits, bounds = self.limits, []
        if "steps" in limits:
            bounds.append(limits["steps"])
        if "pairs" in limits:
            bounds.append(limits["pairs"] // pairs_per_step)
        return int(min(bounds)) if bounds else None

    def spent(self, ledger: Ledger, axis: str | None = None) -> float:
        """Spending on an axis; without one, on the matched axis."""
        return ledger.spent(axis or self.axis, free_data=self.free_data)

    def share(self, ledger: Ledger) -> float:
        """The share of the budget that is spent: of the matched limit, or of the cap that is nearest to it."""
        return max(self.spent(ledger, axis) / limit for axis, limit in self.limits.items())

    def stopped_by(self, ledger: Ledger) -> str:
        """The limit that ended a run: the matched axis, a cap, or "" while none is reached."""
        return next((axis for axis, limit in self.limits.items() if self.spent(ledger, axis) >= limit), "")
