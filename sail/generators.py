"""The models that sample responses of online pairs: the current policy, the start policy, older weights, or another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import use_adapter

from sail.routes import LAGGED, OTHER, START

OLD_WEIGHTS = "lagged.safetensors"


class Generators:
    """The models behind the sources of :mod:`sail.routes`. Only the current policy's responses get a score term.

    Args:
        other: the model of the OTHER source, or None.
        lag_steps: optimiser steps between two copies of the trainable weights; 0 if the LAGGED source has no share.
    """

    def __init__(self, other: Any = None, lag_steps: int = 0) -> None:
        self.other, self.lag_steps = other, lag_steps
        self._old_weights: dict[str, Tensor] = {}

    def begin_step(self, policy: Any, step: int) -> None:
        """Copy the policy's weights if ``step`` is one of those in which they are copied."""
        if self.lag_steps and (not self._old_weights or step % self.lag_steps == 0):
            self._old_weights = {n: p.detach().clone() for n, p in _trainable(policy).items()}

    @contextmanager
    def model(self, source: int, policy: Any, reference: Any | None) -> Iterator[Any]:
        """The model of a source, for the time of sampling.

        Args:
            source: START, LAGGED, OTHER or CURRENT.
            policy: the policy in training, unwrapped.
            reference: the start policy, unwrapped. Without one it is ``policy`` with its adapter off, or with the
                frozen copy of the adapter that it began with.
        """
        if source == OTHER:
            yield self.other
        elif source == START and reference is not None:
            yield reference
        elif source == START:
            with use_adapter(policy, adapter_name="ref" if "ref" in policy.peft_config else None):
                yield policy
        elif source == LAGGED:
            with self._with_old_weights(policy):
                yield policy
        else:
            yield policy

    @contextmanager
    def _with_old_weights(self, policy: Any) -> Iterator[None]:
        trainable = _trainable(policy)
        current = {n: p.detach().clone() for n, p in trainable.items()}
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(self._old_weights[name])
            yield
            for name, parameter in trainable.items():
                parameter.copy_(current[name])

    def save(self, checkpoint: Path) -> None:
        """Write the older weights into a checkpoint, so that a resumed run samples from the same."""
        from safetensors.torch import save_file

        if self._old_weights:
            save_file({n: t.contiguous() for n, t in self._old_weights.items()}, checkpoint / OLD_WEIGHTS)

    def load(self, checkpoint: Path, policy: Any) -> None:
        """Restore the older weights from a checkpoint, if it holds any."""
        from safetensors.torch import load_file

        if self.lag_steps and (checkpoint / OLD_WEIGHTS).is_file():
            devices = {n: p.device for n, p in _trainable(policy).items()}
            self._old_weights = {n: t.to(devices[n]) for n, t in load_file(checkpoint / OLD_WEIGHTS).items()}


def _trainable(policy: Any) -> dict[str, Any]:
    return {n: p for n, p in policy.named_parameters() if p.requires_grad}
