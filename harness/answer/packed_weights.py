"""Linear layers that multiply by a packed copy of their weight, on a CPU in float32.

Intel's MKL, which multiplies matrices in torch, arranges a weight anew at every product. For few rows this takes about
as long as the product. Here each large weight is arranged once and kept beside the original. Products of few rows
differ from torch's by rounding, as they do from one number of rows to another; those of many rows are the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from harness.budget.machines import cpu
from harness.budget.memory import LEAST_PACKED, may_pack
from harness.store.environment import note_fact
from harness.store.settings import settings

PACKED_FOR = 192
"""Rows that a weight is arranged for. It serves other numbers of rows as well."""

LEAST_ROWS, MOST_ROWS = 4, 512
"""Of a product by a packed weight. For fewer rows MKL reads a plain weight as fast; for more, arranging it takes little
of the time, and a model that only trains or scores in large batches needs no copies."""

PROBES = 32
"""Entries of a weight that show whether it was changed past torch's count of changes, as PEFT merges an adapter."""

TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Copy:
    """A packed weight, and what tells whether it is that of the layer still.

    Attributes:
        packed: for MKL.
        address: of the weight's numbers.
        changes: torch's count of them.
        probes: some entries of the weight, a view; values: what they were.
    """

    packed: Tensor
    address: int
    changes: int
    probes: Tensor
    values: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> _Copy:
        probes = weight.detach().view(-1)[:: weight.numel() // PROBES + 1]
        packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.detach(), PACKED_FOR)
        return cls(packed, weight.data_ptr(), weight._version, probes, probes.clone())

    def is_of(self, weight: Tensor) -> bool:
        same = weight.data_ptr() == self.address and weight._version == self.changes
        return same and torch.equal(self.probes, self.values)


class PackedLinear(nn.Linear):
    """A linear layer with a packed copy of its weight, made when it is first needed and again if the weight changes.

    A weight in training has none: it changes at every step. The copy is no part of the layer's state.
    """

    _copy: _Copy | None = None
    _trains = False

    def forward(self, input: Tensor) -> Tensor:
        """As ``nn.Linear``."""
        if torch.is_grad_enabled() and self.weight.requires_grad:
            self._copy, self._trains = None, True
        if self._trains or not self.takes(input):
            return linear(input, self.weight, self.bias)
        if self._copy is None or not self._copy.is_of(self.weight):
            self._pack(again=self._copy is not None)
        if self._copy is None:
            return linear(input, self.weight, self.bias)
        return _product(input, self._copy.packed, self.weight, self.bias)

    def takes(self, input: Tensor) -> bool:
        """Whether this product may use a packed weight."""
        return (
            LEAST_ROWS * self.in_features <= input.numel() <= MOST_ROWS * self.in_features
            and input.shape[-1] == self.in_features
            and type(input) is Tensor
            and input.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not (torch.is_grad_enabled() and _needs_gradient(input, self.bias))
        )

    def _pack(self, again: bool) -> None:
        """Make a copy, where there can be one."""
        self._trains = again and self.weight.requires_grad
        self._copy = None if self._trains or not _packable(self.weight) else _Copy.of(self.weight)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_copy"}


def _product(input: Tensor, packed: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = input.numel() // weight.shape[1]
    product: Tensor = torch.ops.mkl._mkl_linear(input, packed, weight, bias, rows)
    return product


def pack_linears(model: Any) -> Any:
    """Let the large linear layers of a model compute with packed weights, and return it.

    It stays as it is on another device, in another precision, without MKL, and where the copies would take too much
    memory (:func:`harness.budget.memory.may_pack`).

    Args:
        model: of PyTorch, before an adapter is added.
    """
    layers = [m for m in model.modules() if type(m) is nn.Linear and _packable(m.weight)]
    size = sum(m.weight.numel() * m.weight.element_size() for m in layers)
    if layers and may_pack(size, cpu(1).memory / settings().workers) and mkl_agrees():
        for layer in layers:
            layer.__class__ = PackedLinear
        note_fact("packed_weights", True)
    return model


def _needs_gradient(*tensors: Tensor | None) -> bool:
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _packable(weight: Tensor) -> bool:
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()
    return plain and weight.numel() >= LEAST_PACKED


@cache
def mkl_agrees() -> bool:
    """Whether torch has MKL's products by packed weights here, and they are right."""
    if not all(hasattr(torch.ops.mkl, name) for name in ("_mkl_linear", "_mkl_reorder_linear_weight")):
        return False
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(129, 67, generator=generator), torch.randn(129, generator=generator)
    try:
        with torch.no_grad():
            packed = _Copy.of(weight).packed
            inputs = [torch.randn(rows, 67, generator=generator) for rows in (LEAST_ROWS, 7, 33, 301)]
            pairs = [(_product(x, packed, weight, bias), linear(x, weight, bias)) for x in inputs]
    except RuntimeError:
        return False
    return all(bool((ours - plain).norm() <= TOLERANCE * plain.norm()) for ours, plain in pairs)
