"""Callbacks of a SAIL run: the lagged baselines that it carries from step to step, the tokens that it counts, and the
time of each phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from sail.ranks import joined_lists
from sail.routes import ROUTE_NAMES


class LaggedBaseline(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Running means of phi by route; saved with the trainer state, so that a resumed run uses the same baseline."""

    def __init__(self, means: dict[str, float] | None = None) -> None:
        self.means = dict(means or {})
        self.values: dict[int, list[float]] = {}

    def add(self, route: int, phi: float) -> None:
        """Record the phi of one pair of the current step."""
        self.values.setdefault(route, []).append(phi)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the step's mean of each route, over all ranks, as the next step's lagged baseline."""
        by_route = joined_lists(self.values)
        self.means.update({ROUTE_NAMES[r]: sum(v) / len(v) for r, v in by_route.items()})
        self.values = {}

    @property
    def lagged(self) -> dict[int, float]:
        """Means of the last step in which each route occurred."""
        return {r: self.means[n] for r, n in ROUTE_NAMES.items() if n in self.means}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On a resume, take up the means that the checkpoint holds."""
        saved = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        if saved:
            self.means = dict(saved["args"]["means"])

    def state(self) -> dict[str, Any]:
        """What transformers writes into ``trainer_state.json``."""
        return {"args": {"means": self.means}, "attributes": {}}


class TokenCount(TrainerCallback, ExportableState):  # type: ignore[misc]
    """TRL's count of the tokens trained on; saved with the trainer state, so that a resumed run counts on.

    Args:
        trainer: of TRL, which counts.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On a resume, take up the count that the checkpoint holds."""
        saved = state.stateful_callbacks.setdefault(type(self).__name__, {}) if state.global_step else None
        if saved:  # a checkpoint of an earlier version holds none
            self._trainer._total_train_tokens = saved["attributes"]["num_tokens"]

    def state(self) -> dict[str, Any]:
        """What transformers writes into ``trainer_state.json``."""
        return {"args": {}, "attributes": {"num_tokens": int(self._trainer._total_train_tokens)}}


class StepClock(TrainerCallback):  # type: ignore[misc]
    """Logs the seconds of each phase of a step: those named by ``phase``, and ``train`` from ``start`` to the end."""

    def __init__(self, log: Callable[[str, float], None]) -> None:
        self.log = log
        self._began: float | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.perf_counter()
        yield
        self.log(f"seconds/{name}", time.perf_counter() - began)

    def start(self) -> None:
        """Forward, backward and update begin: the rollout is done."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log the time since ``start``."""
        if self._began is not None:
            self.log("seconds/train", time.perf_counter() - self._began)
        self._began = None
