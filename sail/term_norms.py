"""How much each term of the surrogate contributes to the gradient of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sail.ranks import all_ranks


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
        """Add the gradients of one micro-batch.

        ``terms``: scalars by name, each a weighted sum as it stands in the loss.
        """
        for name, value in terms.items():
            if not value.requires_grad:
                continue
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            whole = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
            before = self._sums.get(name)
            self._sums[name] = whole if before is None else [a + b for a, b in zip(before, whole, strict=True)]

    def take(self, accelerator: Any) -> dict[str, float]:
        """The norms over all ranks, by term; empty if no gradient was added. The next step starts from nothing."""
        out = {}
        for name in sorted(set().union(*all_ranks(set(self._sums)))):
            parts = self._sums.get(name)
            if accelerator.num_processes > 1:
                like = parts or [torch.zeros_like(p) for p in next(iter(self._sums.values()))]
                parts = [accelerator.reduce(g, "mean") for g in like]
            out[name] = sum(float(g.double().pow(2).sum()) for g in parts or []) ** 0.5
        self._sums = {}
        return out
