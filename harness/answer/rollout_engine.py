"""The engine that samples in place of transformers: one a run process, for pairs, the search, training and evaluation.

Weights go in as saved folders (:meth:`RolloutEngine.sync`), token ids go in and out. Each use wakes the engine and puts
it to sleep again, so that training has the device's memory for itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.errors import Problem
from harness.recipe.train import LoraSpec
from sail.types import Completion, Request


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is made from.

    Attributes:
        start: folder of the start policy, which the engine reads where it is.
        dtype: name of the torch type that it computes in.
        lora: the adapter that training adds; None for full fine-tuning.
        options: of the recipe's ``engine``.
    """

    start: Path
    dtype: str
    lora: LoraSpec | None
    options: Mapping[str, Any]


class RolloutEngine(ABC):
    """Samples from the start policy or from weights saved later.

    A folder's content must not change while it is synced: new weights come in a new folder.

    Args:
        settings: what it is made from.

    Attributes:
        synced: folder of the weights that it samples from; None for the start policy.
        unchecked: nobody compared its log-probabilities with transformers since.
        started: it has been awake once.
        asleep: whether the device's memory is given back.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.synced: Path | None = None
        self.unchecked = True
        self.started, self.asleep = False, True

    @classmethod
    def ready(cls) -> list[Problem]:
        """Why it cannot be used on this machine; empty if nothing is known that speaks against it."""
        return []

    def sync(self, folder: Path | None) -> None:
        """Take up saved weights, if they are others than those synced last.

        Args:
            folder: of an adapter of the start policy, or of a whole model; None for the start policy.

        Raises:
            UserError: the engine cannot hold them.
        """
        if folder != self.synced:
            self._load(folder)
            self.synced, self.unchecked = folder, True

    @abstractmethod
    def _load(self, folder: Path | None) -> None:
        """Take up other weights."""

    @abstractmethod
    def sample(self, requests: Sequence[Request], eos_ids: Sequence[int]) -> list[Completion]:
        """One answer to each request, in request order, from the weights synced last.

        Args:
            requests: prompts with their limits, temperatures and keys; a key gives the request's seed.
            eos_ids: ids that end an answer.
        """

    def sleep(self) -> None:
        """Free the device's memory until :meth:`wake`."""
        self.asleep = True

    def wake(self) -> None:
        """Take the device's memory, at first or back after :meth:`sleep`, with the weights synced last."""
        self.started, self.asleep = True, False

    def close(self) -> None:
        """Give everything back; it is not used again."""
        self.asleep = True


ENGINES = {"vllm": "harness.answer.vllm_engine:VllmEngine"}
"""Engines by their name in recipes: module and class, imported when one is needed."""


def engine_class(name: str) -> type[RolloutEngine]:
    """The class of an engine; what it needs itself is not imported.

    Args:
        name: key of :data:`ENGINES`.
    """
    module, _, cls = ENGINES[name].partition(":")
    engine: type[RolloutEngine] = getattr(import_module(module), cls)
    return engine


def make_engine(name: str, settings: EngineSettings) -> RolloutEngine:
    """The engine of a recipe.

    Args:
        name: key of :data:`ENGINES`.
        settings: what it is made from.

    Raises:
        UserError: it is not installed, or does not take the model.
    """
    return engine_class(name)(settings)
