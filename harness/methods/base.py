"""The contract of a method: a class with a name, a paper, a typed config and ``train(context) -> Path | None``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.budget.forecast import Spending
from harness.train.context import TrainContext

if TYPE_CHECKING:
    from harness.train.pair_trainers import Loss
    from harness.train.settings import arguments
    from harness.train.trainer import run_trainer

__all__ = [
    "Loss",
    "Method",
    "MethodConfig",
    "PairConfig",
    "PairMethod",
    "Spending",
    "TrainContext",
    "arguments",
    "run_trainer",
]

_HOMES = {
    "Loss": "harness.train.pair_trainers",
    "arguments": "harness.train.settings",
    "run_trainer": "harness.train.trainer",
}


def __getattr__(name: str) -> Any:
    """What a plugin trains with, imported when it is first asked for: these modules import torch and TRL."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class MethodConfig(BaseModel):
    """Options of a method that a recipe may set under ``method_options``. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    """An offline method: a loss of the log-probabilities of the stored pairs
    (:class:`harness.train.pair_trainers.PairTrainer`)."""

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

        from harness.train.pair_trainers import PairTrainer
        from harness.train.settings import arguments
        from harness.train.trainer import run_trainer

        beta = getattr(self.config, "beta", None) or context.train.beta
        args = DPOConfig(**arguments(context), precompute_ref_log_probs=True)
        return run_trainer(
            context, PairTrainer, args, needs_reference=False, pair_loss=self.loss(beta), chosen_only=self.chosen_only
        )
