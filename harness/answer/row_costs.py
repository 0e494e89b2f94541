"""What each stored row cost, so that a row that is already there can be charged again.

A price must not depend on what a cache happened to hold: a row is stored with its cost, and a row that is found is
charged what it cost when it was computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.budget.meter import Meter


class RowCosts:
    """Divides what a meter counts between two batches equally among the rows of the batch."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._before = meter.reading()

    def of_batch(self, rows: int) -> dict[str, float]:
        """Cost of one row, by quantity, if ``rows`` rows were computed since the last call (or since the start)."""
        before, now = self._before, self._meter.reading()
        self._before = now
        return {q: round((now[q] - before.get(q, 0)) / rows, 6) for q in now if now[q] != before.get(q, 0)}


def charge_stored_costs(meter: Meter, costs: Iterable[Mapping[str, float]]) -> None:
    """Charge the stored costs of rows (by quantity) to the phase that is charged now."""
    for cost in costs:
        for quantity, amount in cost.items():
            meter.charge(quantity, amount)
