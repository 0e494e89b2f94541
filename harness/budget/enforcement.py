"""Stops a method that trains on after its budget is spent, whatever it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.budget.budget import Budget
from harness.budget.ledger import Ledger


class BudgetExceededError(RuntimeError):
    """A method went on training after its budget was spent."""


class BudgetGuard:
    """Counts the updates of metered weights and allows none after a limit is reached.

    It judges steps and pairs by what the hooks saw (``updates`` and ``rows`` in the ledger), not by what a trainer
    charged.

    Args:
        budget: what the method may spend.
        ledger: what it has spent, filled by the meter.
        models: gives the metered models (and copies of them) that are alive.
    """

    def __init__(self, budget: Budget, ledger: Ledger, models: Callable[[], Sequence[Any]]) -> None:
        self.stopped = ""
        """The sentence that says how a method was stopped; "" while it was not."""
        self._budget, self._ledger, self._models = budget, ledger, models
        self._limit_before = self._limit_reached()

    def after_update(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Hook of torch, called after any optimiser's step.

        Raises:
            BudgetExceededError: a limit was reached before this step.
        """
        metered = {id(p) for model in self._models() for p in model.parameters()}
        if not any(id(p) in metered for group in optimizer.param_groups for p in group["params"]):
            return
        before = self._limit_before
        self._ledger.add("train", "updates", 1)
        self._limit_before = self._limit_reached()
        if before:
            axis = before.split()[-1]
            self.stopped = f"ignored its budget: it trained on after {before} and was stopped at {self._spent(axis):g}"
            raise BudgetExceededError(self.stopped)

    def _spent(self, axis: str) -> float:
        if axis == "steps":
            return self._ledger.get("train", "updates")
        if axis == "pairs":
            return self._ledger.get("train", "rows") / 2
        return self._budget.spent(self._ledger, axis)

    def _limit_reached(self) -> str:
        """A limit that is reached by now, such as ``64 pairs``; "" if none is."""
        limits = self._budget.limits.items()
        return next((f"{limit:g} {axis}" for axis, limit in limits if self._spent(axis) >= limit), "")
