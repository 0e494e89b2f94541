"""What a method is given to train with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.budget.budget import Budget
from harness.budget.ledger import Ledger
from harness.recipe.recipe import TrainSpec

if TYPE_CHECKING:
    from harness.budget.meter import Meter
    from harness.oracles.metered import MeteredOracle


@dataclass
class TrainContext:
    """All that a method gets. What it spends through these objects is metered.

    ``pairs`` are the stored preference pairs (token ids, rewards, reference log-probabilities), ``prompts`` the oracle
    rows by prompt id, ``load_model()`` a fresh metered copy of the start policy (of a saved policy, given its folder),
    ``directory`` a folder that survives a kill (checkpoints go there); ``on_step`` is to be called with the number of
    finished steps. ``per_step`` predicts what a step spends by axis. The trainers keep the policy at each of
    ``fractions`` of the budget in ``directory/fractions``.
    """

    start: Path
    tokenizer: Any
    pairs: Sequence[dict[str, Any]]
    prompts: dict[str, dict[str, Any]]
    oracle: MeteredOracle
    meter: Meter
    ledger: Ledger
    budget: Budget
    seed: int
    learning_rate: float
    max_new_tokens: int
    train: TrainSpec
    directory: Path
    load_model: Callable[..., Any]
    on_step: Callable[[int], None] = lambda step: None
    per_step: Mapping[str, float] = field(default_factory=dict)
    fractions: Sequence[float] = ()
    log: list[dict[str, float]] = field(default_factory=list)
    _ticked: float = field(default_factory=time.perf_counter)

    def share(self) -> float:
        """The share of the budget that is spent."""
        self.meter.flush()
        return self.budget.share(self.ledger)

    def tick(self) -> None:
        """Charge the wall-clock time since the last call (or since training began) to the ledger."""
        now = time.perf_counter()
        self.ledger.add("wall", "seconds", now - self._ticked)
        self._ticked = now
