"""What a run spent, by phase, and what of it counts towards each axis of a budget.

Phases: ``data`` (the stored pairs that the run used: sampling and labelling them), ``setup`` (loading, until the first
forward), ``train``, ``reference`` (forwards without gradient), ``generate``, ``oracle``, and after training ``eval``
and ``judge``. ``wall`` holds the whole time of training once more, seen by no hook, and ``heldout`` the held-out pairs.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass, field
from typing import Any

PAID = ("data", "train", "reference", "generate", "oracle")

FLOPS = ("forward_flops", "backward_flops", "prefill_flops", "decode_flops")

AXES = {
    "steps": "optimiser steps",
    "pairs": "preference pairs trained on",
    "train_tokens": "tokens through the model in training forwards",
    "generated_tokens": "tokens sampled, for the stored pairs used and in training",
    "oracle_calls": "labels asked for, for the stored pairs used and in training",
    "flops": "floating-point operations: stored pairs used, training, reference, sampling",
    "seconds": "seconds: stored pairs used, training, reference, sampling, labels (loading left out)",
}


@dataclass
class Ledger:
    """Spending by phase and quantity.

    Attributes:
        entries: amounts by phase and quantity. Quantities: ``tokens`` (positions through the model, padding left out),
            ``generated`` (tokens sampled), ``calls`` (of the oracle or the judge), ``undecided`` (labels without a
            verdict, taken as ties; those of one reason once more as ``undecided: REASON``), ``pairs``, ``steps``,
            ``seconds``, and floating-point operations as ``forward_flops``, ``backward_flops``, ``prefill_flops``,
            ``decode_flops``. What gradient checkpointing computes a second time (``recomputed_flops``) is a cost of the
            machine and counts towards no budget.
        peak_memory_bytes: peak resident memory of the process.
        peak_device_bytes: peak memory that torch allocated on its GPU; 0 without one.
        bought: the stored pairs that the run used, by number.
        progress: the trainer's own notes, for resuming.
    """

    entries: dict[str, dict[str, float]] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    peak_device_bytes: int = 0
    bought: set[int] = field(default_factory=set)
    progress: dict[str, float] = field(default_factory=dict)

    def add(self, phase: str, quantity: str, amount: float) -> None:
        """Charge an amount.

        Args:
            phase: to which it is charged, such as ``train``.
            quantity: what was spent, such as ``tokens``.
            amount: in the quantity's unit.
        """
        row = self.entries.setdefault(phase, {})
        row[quantity] = row.get(quantity, 0) + amount

    def get(self, phase: str, quantity: str) -> float:
        """What was spent so far."""
        return self.entries.get(phase, {}).get(quantity, 0)

    def flops(self, *phases: str) -> float:
        """Floating-point operations of some phases (all if none is named)."""
        return sum(self.get(phase, kind) for phase in phases or self.entries for kind in FLOPS)

    def spent(self, axis: str, *, free_data: bool = False) -> float:
        """Spending on an axis of :data:`AXES`; the stored pairs cost nothing if the recipe declares them free."""
        if axis in ("steps", "pairs"):  # by the trainers' callback; by the hooks for a method that does not use it
            seen = {"steps": self.get("train", "updates"), "pairs": self.get("train", "rows") / 2}
            return self.get("train", axis) or seen[axis]
        if axis == "train_tokens":
            return self.get("train", "tokens")
        phases = [p for p in PAID if p != "data" or not free_data]
        if axis == "flops":
            return self.flops(*phases)
        quantity = {"generated_tokens": "generated", "oracle_calls": "calls", "seconds": "seconds"}[axis]
        return sum(self.get(phase, quantity) for phase in phases)

    def merge(self, other: Ledger) -> Ledger:
        """A new ledger with both spendings."""
        out = Ledger({p: dict(q) for p, q in self.entries.items()}, bought=self.bought | other.bought)
        out.peak_memory_bytes = max(self.peak_memory_bytes, other.peak_memory_bytes)
        out.peak_device_bytes = max(self.peak_device_bytes, other.peak_device_bytes)
        for phase, row in other.entries.items():
            for quantity, amount in row.items():
                out.add(phase, quantity, amount)
        return out

    def dump(self) -> dict[str, Any]:
        """JSON form; whole numbers as integers, seconds to the millisecond."""
        tidy = {
            phase: {q: round(v, 3 if q == "seconds" else None) for q, v in sorted(row.items())}
            for phase, row in sorted(self.entries.items())
        }
        more = {
            "peak_device_bytes": self.peak_device_bytes,
            "bought": sorted(self.bought),
            "progress": self.progress,
        }
        return {"phases": tidy, "peak_memory_bytes": self.peak_memory_bytes} | {k: v for k, v in more.items() if v}

    @classmethod
    def load(cls, value: dict[str, Any]) -> Ledger:
        """From its JSON form."""
        entries = {p: dict(q) for p, q in value["phases"].items()}
        bought, progress = set(value.get("bought", ())), dict(value.get("progress", {}))
        return cls(entries, value["peak_memory_bytes"], value.get("peak_device_bytes", 0), bought, progress)

    def restore(self, value: dict[str, Any]) -> None:
        """Go on from a JSON form, in place, so that all who hold this ledger go on charging it."""
        stored = Ledger.load(value)
        self.entries, self.peak_memory_bytes = stored.entries, stored.peak_memory_bytes
        self.peak_device_bytes = stored.peak_device_bytes
        self.bought, self.progress = stored.bought, stored.progress

    def note_memory(self) -> None:
        """Record the peak resident memory of this process so far, and that of its GPU."""
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak)
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            self.peak_device_bytes = max(self.peak_device_bytes, int(torch.cuda.max_memory_allocated()))
