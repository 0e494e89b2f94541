"""One ledger for all processes of a training (``train.processes``): what each of them spends counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from harness.budget.ledger import Ledger
from sail.ranks import all_ranks, is_first

T = TypeVar("T")

ONCE = ("steps", "updates")
"""Quantities that the processes spend together: a step is one step."""

WALL = "wall"
"""The phase of the whole time, which passes in all processes at once. The other phases count the seconds of each."""


class JointLedger:
    """Makes the ledgers of all processes equal at step boundaries, so that all of them stop at the same one.

    With one process it does nothing.

    Args:
        ledger: of this process. What it holds now is what all of them have spent so far.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.begin()

    def begin(self) -> None:
        """Take what the ledger holds now as the spending of all, as after it was restored from a checkpoint."""
        self._before = Ledger().merge(self._ledger)

    def join(self) -> None:
        """Let the ledger hold what all processes have spent. All of them have to call it."""
        parts = all_ranks(_since(self._before, self._ledger))
        if len(parts) == 1:
            return
        total = self._before
        for rank, part in enumerate(parts):
            total = total.merge(part if rank == 0 else _without_shared(part))
        self._ledger.entries, self._ledger.bought = total.entries, total.bought
        self._ledger.peak_memory_bytes, self._ledger.peak_device_bytes = (
            total.peak_memory_bytes,
            total.peak_device_bytes,
        )
        self.begin()


def _since(before: Ledger, now: Ledger) -> Ledger:
    """What was spent between two states of a ledger."""
    entries = {
        phase: {quantity: amount - before.get(phase, quantity) for quantity, amount in row.items()}
        for phase, row in now.entries.items()
    }
    return Ledger(entries, now.peak_memory_bytes, now.peak_device_bytes, now.bought)


def _without_shared(part: Ledger) -> Ledger:
    """The spending of a process beside the first, without what all of them spend together."""
    entries = {
        phase: {quantity: amount for quantity, amount in row.items() if quantity not in ONCE}
        for phase, row in part.entries.items()
        if phase != WALL
    }
    return Ledger(entries, part.peak_memory_bytes, part.peak_device_bytes, part.bought)


def of_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them. All of them have to call it."""
    return cast(T, all_ranks(make() if is_first() else None)[0])
