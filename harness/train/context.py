"""What a method is given to train with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.budget.budget import Budget
from harness.budget.ledger import Ledger
from harness.recipe.train import Precision, TrainSpec

if TYPE_CHECKING:
    from harness.budget.meter import Meter
    from harness.oracles.metered import MeteredOracle
    from sail.sampling import Sampler


@dataclass
class TrainContext:
    """All that a method gets. What it spends through these objects is metered.

    Attributes:
        start: directory of the start policy.
        tokenizer: of the start policy.
        pairs: the stored preference pairs, one row each: ``id`` (of the prompt), ``prompt_ids``, ``chosen_ids`` and
            ``rejected_ids`` (token ids), and, under the start policy, ``ref_chosen_logps`` and ``ref_rejected_logps``
            (sums in nats). Sampled pairs also hold their rewards. A row is read from disk each time it is taken.
        prompts: what the oracle needs to label an answer, by prompt id.
        oracle: labels answers: ``prefer(rows, firsts, seconds)``, ``score(rows, texts)``, ``rank(row, texts)``.
        meter: counts what passes through the models; its ``phase(name)`` charges all inside to one phase.
        ledger: what the run has spent so far.
        budget: what the run may spend.
        seed: of this run.
        learning_rate: of this run.
        max_new_tokens: longest answer that is sampled in training.
        train: the recipe's settings that all methods share; precision: the recipe's.
        generation_batch_size: most answers sampled at once.
        directory: a folder that survives a kill; checkpoints and the trained policy go there.
        load_model: gives a fresh, metered copy of the start policy or, given its folder, of a saved policy.
        on_step: moves the progress bar; to be called with the number of finished steps.
        on_log: gets each row of the training log as it is written, with its number in the whole log, from 1.
        say: shows one line to the user, and writes it into the run's log.
        per_step: what a step is predicted to spend, by axis.
        predicted_steps: that the budget is predicted to buy, where it does not fix them; None if nothing tells.
        fractions: shares of the budget at which trainers keep the policy, in ``directory/fractions``.
        sampler: takes the place of :func:`sail.sampling.sample` under another engine; None under transformers.
        log: rows of the training log, which the method fills.
    """

    start: Path
    tokenizer: Any
    pairs: Sequence[dict[str, Any]]
    prompts: Mapping[str, dict[str, Any]]
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
    on_log: Callable[[int, Mapping[str, float]], None] = lambda number, row: None
    say: Callable[[str], None] = print
    per_step: Mapping[str, float] = field(default_factory=dict)
    predicted_steps: int | None = None
    precision: Precision = "float32"
    generation_batch_size: int = 64
    fractions: Sequence[float] = ()
    sampler: Sampler | None = None
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
