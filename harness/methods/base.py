"""The contract of a method: a class with a name, a paper, a typed config and ``train(context) -> Path | None``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.budget import Budget
from harness.ledger import Ledger
from harness.predict import Spending
from harness.recipe import TrainSpec

if TYPE_CHECKING:
    from harness.meter import Meter, MeteredOracle
    from harness.offline import Loss


class MethodConfig(BaseModel):
    """Options of a method that a recipe may set under ``method_options``. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Method:
    """Base class of methods.

    ``trains`` is False for a control that leaves the start policy as it is; ``instruction`` is then appended to each
    user turn that it answers. ``grid``: the options that a recorded search tries. ``published`` quotes the settings of
    the paper or its code, as a hint; the defaults of ``Config`` are those that did well here (docs/methods.md says how
    they were found).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    published: ClassVar[str] = ""
    instruction: ClassVar[str] = ""
    version: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, config: MethodConfig | None = None) -> None:
        self.config = config or self.Config()

    def train(self, context: TrainContext) -> Path | None:
        """Train from the start policy within the budget; return the folder of the saved policy or adapter."""
        raise NotImplementedError

    def shown(self) -> dict[str, Any]:
        """Its options as results publish them."""
        return self.config.model_dump(mode="json")

    def spending(self) -> Spending:
        """What a trained pair costs in expectation (for predictions). The default: one stored pair, nothing else."""
        return Spending()


class PairConfig(MethodConfig):
    """``beta``: scale of the implicit reward; the recipe's ``train.beta`` if not given."""

    beta: float | None = Field(default=None, gt=0)


class PairMethod(Method):
    """An offline method: a loss of the log-probabilities of the stored pairs (:class:`harness.offline.PairTrainer`)."""

    Config: ClassVar[type[MethodConfig]] = PairConfig
    chosen_only: ClassVar[bool] = False

    def loss(self, beta: float) -> Loss:
        """Loss of each pair as a function of :class:`sail.losses.Sides`; ``beta`` is the option's or the recipe's."""
        raise NotImplementedError

    def spending(self) -> Spending:
        """One row a pair if the rejected response is left out."""
        return Spending(rows=1 if self.chosen_only else 2)

    def train(self, context: TrainContext) -> Path | None:
        """Train on the stored pairs with this loss."""
        from trl import DPOConfig

        from harness.offline import PairTrainer
        from harness.training import arguments, run_trainer

        beta = getattr(self.config, "beta", None) or context.train.beta
        args = DPOConfig(**arguments(context), precompute_ref_log_probs=True)
        return run_trainer(
            context, PairTrainer, args, needs_reference=False, pair_loss=self.loss(beta), chosen_only=self.chosen_only
        )
