"""What a SAIL run carries from step to step: lagged baselines; and what it reports of a step: its time, its terms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from sail.rollout import NAMES


def all_ranks(value: Any) -> list[Any]:
    """The value of every process, in rank order."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    return list(gather_object([value])) if PartialState().num_processes > 1 else [value]


class LaggedBaseline(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Running means of phi by route; saved with the trainer state, so that a resumed run uses the same baseline."""

    def __init__(self, means: dict[str, float] | None = None) -> None:
        self.means = dict(means or {})
        self.sums: dict[int, list[float]] = {}

    def add(self, route: int, phi: float) -> None:
        """Note the phi of one pair of the current step."""
        self.sums.setdefault(route, []).append(phi)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the step's mean of each route, over all ranks, as the next step's lagged baseline."""
        merged: dict[int, list[float]] = {}
        for part in all_ranks(self.sums):
            for route, values in part.items():
                merged.setdefault(route, []).extend(values)
        self.means.update({NAMES[r]: sum(v) / len(v) for r, v in merged.items()})
        self.sums = {}

    @property
    def lagged(self) -> dict[int, float]:
        """Means of the last step in which each route occurred."""
        return {r: self.means[n] for r, n in NAMES.items() if n in self.means}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On a resume, take up the means that the checkpoint holds."""
        saved = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        if saved:
            self.means = dict(saved["args"]["means"])

    def state(self) -> dict[str, Any]:
        """What transformers writes into ``trainer_state.json``."""
        return {"args": {"means": self.means}, "attributes": {}}


class StepClock(TrainerCallback):  # type: ignore[misc]
    """Seconds of each phase of a step into a log: those named by ``phase``, and ``train`` from ``start`` to the end."""

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
        """The rollout is done: forward, backward and update begin."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time since ``start``."""
        if self._began is not None:
            self.log("seconds/train", time.perf_counter() - self._began)
        self._began = None


class TermNorms:
    """Gradient norms of T1 (responses), T2 (pair loss) and T3 (self-labels), with their weights, over a whole step.

    They cost up to three more backward passes in the steps where they are taken, and a copy of the gradients for each.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._sums: dict[str, list[Tensor]] = {}

    def due(self, step: int) -> bool:
        """Whether the norms of this step are wanted."""
        return self.every > 0 and step % self.every == 0

    def add(self, terms: dict[str, Tensor], parameters: Sequence[Tensor]) -> None:
        """Add the gradients of one micro-batch. ``terms``: weighted sums that belong to the loss, each a scalar."""
        for name, value in terms.items():
            if not value.requires_grad:
                continue
            found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            whole = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
            before = self._sums.get(name)
            self._sums[name] = whole if before is None else [a + b for a, b in zip(before, whole, strict=True)]

    def take(self, accelerator: Any) -> dict[str, float]:
        """The norms over all ranks; starts afresh. Nothing if no gradient was added."""
        out = {}
        for name in sorted(set().union(*all_ranks(set(self._sums)))):
            parts = self._sums.get(name)
            if accelerator.num_processes > 1:
                like = parts or [torch.zeros_like(p) for p in next(iter(self._sums.values()))]
                parts = [accelerator.reduce(g, "mean") for g in like]
            out[name] = sum(float(g.double().pow(2).sum()) for g in parts or []) ** 0.5
        self._sums = {}
        return out
