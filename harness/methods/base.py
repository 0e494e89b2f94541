"""The contract of a method: a class with a name, a paper, a typed config and ``train(context) -> Path | None``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from harness.budget import Budget, Ledger, Meter, MeteredOracle
from harness.recipe import TrainSpec


class MethodConfig(BaseModel):
    """Options of a method that a recipe may set under ``method_options``. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass
class TrainContext:
    """All that a method gets. What it spends through these objects is metered.

    ``pairs`` are the stored preference pairs (token ids, rewards, reference log-probabilities), ``prompts`` the oracle
    rows by prompt id, ``directory`` a folder that survives a kill (checkpoints go there), ``on_step`` is to be called
    with the number of finished steps.
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
    load_model: Callable[[], Any]
    on_step: Callable[[int], None] = lambda step: None
    log: list[dict[str, float]] = field(default_factory=list)


class Method:
    """Base class of methods. ``trains`` is False for a control that leaves the start policy as it is."""

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, config: MethodConfig | None = None) -> None:
        self.config = config or self.Config()

    def train(self, context: TrainContext) -> Path | None:
        """Train from the start policy within the budget; return the folder of the saved policy or adapter."""
        raise NotImplementedError

    def samples_online(self) -> float:
        """Expected share of training pairs whose responses are sampled during training (for predictions)."""
        return 0.0
