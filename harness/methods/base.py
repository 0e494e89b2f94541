"""The contract of a method: a name, typed options and ``train(context)``, which returns the trained policy's folder.

All that a plugin imports to train within a budget is offered here. ``arguments``, ``run_trainer`` and ``Loss`` come
from modules that import torch and TRL, so that they are loaded on first use: import them inside of ``train``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.budget.forecast import Spending
from harness.train.context import TrainContext

if TYPE_CHECKING:
    from harness.train.pair_trainers import Loss, Reward
    from harness.train.settings import arguments
    from harness.train.trainer import run_trainer

__all__ = [
    "Loss",
    "Method",
    "MethodConfig",
    "PairConfig",
    "PairMethod",
    "Reward",
    "Spending",
    "TrainContext",
    "arguments",
    "run_trainer",
]

_HOMES = {
    "Loss": "harness.train.pair_trainers",
    "Reward": "harness.train.pair_trainers",
    "arguments": "harness.train.settings",
    "run_trainer": "harness.train.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class MethodConfig(BaseModel):
    """Options of a method that a recipe may set under ``method_options``. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method:
    """Base class of methods.

    A method that is a loss of the stored pairs' log-probabilities derives from :class:`PairMethod` instead, and
    implements ``name``, ``summary`` and :meth:`PairMethod.loss` alone.

    **To implement**, in this order:

    1. ``name`` and ``summary``: how recipes and tables call it, and one line for the listing.
    2. :meth:`train`: train from the start policy within the budget, and return the folder of the saved policy.
       :func:`run_trainer` with :func:`arguments` does it for any trainer that derives from TRL's ``DPOTrainer``:
       adapter or full weights, reference, budget, checkpoints, resume.
    3. :meth:`spending`, if a pair costs it anything but one training forward of a stored pair.

    **Optional**, in the order in which authors have wanted them:

    * ``Config``: options that a recipe may set, with defaults; ``self.config`` is an instance.
    * ``paper`` and ``published``: an address, and the settings that the paper or its code used, as a hint to readers.
    * ``grid``: values by option that a recorded search tries.
    * ``reads_reference``: False if no log-probability under the start policy enters the loss. Then imported pairs
      cost it nothing, since those log-probabilities are all that they cost.
    * ``distributed``: True if :meth:`train` may run in several processes at once (``train.processes``), each with its
      part of the pairs: if it trains by one call of :func:`run_trainer`, and its loss is a mean over pairs. A class
      with a :meth:`train` of its own does not inherit it.
    * ``version``: raise it when the code would train another policy from the same inputs; it is part of the key under
      which policies are stored.
    * ``trains``: False for a control that leaves the start policy as it is. ``instruction`` is then appended to each
      user turn that it answers.
    * :meth:`schedules`: if it trains in rounds, each with a schedule of the learning rate of its own.
    * :meth:`shown`: its options as results publish them, if some are not for the public.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    published: ClassVar[str] = ""
    version: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    reads_reference: ClassVar[bool] = True
    distributed: ClassVar[bool] = False
    instruction: ClassVar[str] = ""
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init_subclass__(cls) -> None:
        if "train" in vars(cls) and "distributed" not in vars(cls):
            cls.distributed = False  # a train() of its own has to say so itself

    def __init__(self, config: MethodConfig | None = None) -> None:
        self.config = config or self.Config()

    def train(self, context: TrainContext) -> Path | None:
        """Train from the start policy within the budget.

        Returns:
            the folder of the saved policy, or of its adapter, as ``save_pretrained`` writes it; None if the method does
            not train. One in ``context.directory`` is moved, any other is copied.
        """
        raise NotImplementedError

    def shown(self) -> dict[str, Any]:
        """Its options as results publish them."""
        return self.config.model_dump(mode="json")

    def schedules(self) -> int:
        """How many schedules of the learning rate follow each other over a training: one, unless it has rounds."""
        return 1

    def spending(self) -> Spending:
        """What a trained pair costs in expectation, for predictions. The default: one stored pair, nothing else."""
        return Spending()


class PairConfig(MethodConfig):
    """Options of methods with an implicit reward. ``beta``: scale of the implicit reward; ``train.beta`` if null."""

    beta: float | None = Field(default=None, gt=0)


class PairMethod(Method):
    """Base class of offline methods that are a loss of the stored pairs' log-probabilities.

    **To implement**: ``name``, ``summary`` and :meth:`loss`. **Optional**: :meth:`rewards`, if its implicit reward is
    not DPO's; ``chosen_only``, for a loss that leaves the rejected responses out (then they cost no forward); and what
    :class:`Method` lists.
    """

    Config: ClassVar[type[MethodConfig]] = PairConfig
    distributed = True
    chosen_only: ClassVar[bool] = False

    def loss(self, beta: float) -> Loss:
        """The loss: a function from :class:`sail.losses.Sides` to the loss of each pair, shape (B,).

        In ``Sides`` response 1 is the chosen one; log-probabilities are sums over a response's tokens, in nats.
        ``beta`` is the option's, or the recipe's.
        """
        raise NotImplementedError

    def rewards(self, beta: float) -> Reward:
        """The implicit rewards, which are logged: a function from :class:`sail.losses.Sides` to
        :class:`sail.losses.Rewards`. The default: ``beta`` times the log-ratio to the start policy."""
        from sail.losses import log_ratio_rewards

        return lambda sides: log_ratio_rewards(sides, beta)

    def spending(self) -> Spending:
        """One sequence a pair if the rejected response is left out, else two."""
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
            context,
            PairTrainer,
            args,
            needs_reference=False,
            pair_loss=self.loss(beta),
            rewards=self.rewards(beta),
            chosen_only=self.chosen_only,
        )
