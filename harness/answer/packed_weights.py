"""Linear layers that multiply by a packed copy of their weight, on a CPU in float32.

Intel's MKL, which multiplies matrices in torch, arranges a weight anew at every product. For few rows this takes about
as long as the product. Here each large weight is arranged once and kept beside the original. On a processor that is not
Intel's the products are oneDNN's, which compiles them for the processor that it meets; MKL uses slower ones there.
Products by a packed weight differ from torch's by rounding, as torch's do from one number of rows to another.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from harness.budget.machines import cpu
from harness.budget.memory import LEAST_PACKED, may_pack
from harness.store.environment import note_fact
from harness.store.settings import settings

PACKED_FOR = 192
"""Rows that a weight is arranged for. It serves other numbers of rows as well."""

PROBES = 32
"""Entries of a weight that show whether it was changed past torch's count of changes, as PEFT merges an adapter."""

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Kernel:
    """A library's products by packed weights.

    Attributes:
        name: of the library.
        least: rows of a product from which it is the faster one; most: rows up to which it is, None for any number.
        pack: a weight (out, in) as the library wants it.
        product: of rows (..., in) by a packed weight, given with the plain one and a bias (out,) or None.
    """

    name: str
    least: int
    most: int | None
    pack: Callable[[Tensor], Tensor]
    product: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def _mkl_pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkl._mkl_reorder_linear_weight(weight, PACKED_FOR)
    return packed


def _mkl_product(input: Tensor, packed: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = input.numel() // weight.shape[1]
    product: Tensor = torch.ops.mkl._mkl_linear(input, packed, weight, bias, rows)
    return product


def _onednn_pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)
    return packed


def _onednn_product(input: Tensor, packed: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """With rows filled up to one of few numbers: oneDNN compiles a program for each number and keeps it."""
    rows = input.reshape(-1, weight.shape[1])
    missing = filled(len(rows)) - len(rows)
    padded = torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows
    product: Tensor = torch.ops.mkldnn._linear_pointwise(padded, packed, bias, "none", [], "")
    return product[: len(rows)].view(*input.shape[:-1], weight.shape[0])


def filled(rows: int) -> int:
    """Rows of a product by oneDNN that has at least so many: 47 numbers up to 512, then 16 each time it doubles.

    At least 4: fewer take longer. Two rows by one thread of an AMD EPYC were 1.33 times as fast when filled up to four
    (``nox -s bench -- --only products``).
    """
    step = 4 if rows <= 4 else 1 if rows <= 8 else 4 if rows <= 64 else max(16, 2 ** ((rows - 1).bit_length() - 5))
    return rows + -rows % step


MKL = Kernel("mkl", 4, 512, _mkl_pack, _mkl_product)
"""For fewer rows MKL reads a plain weight as fast; for more, arranging it takes little of the time."""

ONEDNN = Kernel("onednn", 1, None, _onednn_pack, _onednn_product)


@dataclass(frozen=True)
class _Copy:
    """A packed weight, and what tells whether it is that of the layer still.

    Attributes:
        packed: for the kernel.
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
    def of(cls, weight: Tensor, kernel: Kernel) -> _Copy:
        probes = weight.detach().view(-1)[:: weight.numel() // PROBES + 1]
        return cls(kernel.pack(weight.detach()), weight.data_ptr(), weight._version, probes, probes.clone())

    def is_of(self, weight: Tensor) -> bool:
        same = weight.data_ptr() == self.address and weight._version == self.changes
        return same and torch.equal(self.probes, self.values)


class PackedLinear(nn.Linear):
    """A linear layer with a packed copy of its weight, made when it is first needed and again if the weight changes.

    A weight in training has none: it changes at every step. The copy is no part of the layer's state.
    """

    _copy: _Copy | None = None
    kernel: Kernel = MKL
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
        return self.kernel.product(input, self._copy.packed, self.weight, self.bias)

    def steady_forward(self) -> Callable[[Tensor], Tensor] | None:
        """This forward for a while in which the weight stays and no gradient is asked for (:mod:`sail.steady`)."""
        if self._trains or self._copy is None or not self._copy.is_of(self.weight):
            return None
        product, packed, weight, bias = self.kernel.product, self._copy.packed, self.weight, self.bias

        def forward(input: Tensor) -> Tensor:
            if not self.takes(input):
                return linear(input, weight, bias)
            return product(input, packed, weight, bias)

        return forward

    def takes(self, input: Tensor) -> bool:
        """Whether this product may use a packed weight."""
        return (
            self._may_have(input.numel() // self.in_features)
            and input.shape[-1] == self.in_features
            and type(input) is Tensor
            and input.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not (torch.is_grad_enabled() and _needs_gradient(input, self.bias))
        )

    def _may_have(self, rows: int) -> bool:
        return self.kernel.least <= rows and (self.kernel.most is None or rows <= self.kernel.most)

    def _pack(self, again: bool) -> None:
        """Make a copy, where there can be one."""
        self._trains = again and self.weight.requires_grad
        self._copy = None if self._trains or not _packable(self.weight) else _Copy.of(self.weight, self.kernel)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_copy"}


def pack_linears(model: Any) -> Any:
    """Let the large linear layers of a model compute with packed weights, and return it.

    It stays as it is on another device, in another precision, where torch has no products by packed weights, and where
    the copies would take too much memory (:func:`harness.budget.memory.may_pack`).

    Args:
        model: of PyTorch, before an adapter is added.
    """
    layers = [m for m in model.modules() if type(m) is nn.Linear and _packable(m.weight)]
    size = sum(m.weight.numel() * m.weight.element_size() for m in layers)
    if layers and may_pack(size, cpu(1).memory / settings().workers) and (used := best_kernel()):
        for layer in layers:
            layer.__class__ = PackedLinear
            cast(PackedLinear, layer).kernel = used
        note_fact("packed_weights", used.name)
    return model


def packed_by(modules: Iterable[nn.Module]) -> list[str]:
    """Names of the libraries whose packed weights these modules and their parts use: none, or one."""
    parts = (part for module in modules for part in module.modules())
    return sorted({part.kernel.name for part in parts if isinstance(part, PackedLinear)})


def _needs_gradient(*tensors: Tensor | None) -> bool:
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _packable(weight: Tensor) -> bool:
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()
    return plain and weight.numel() >= LEAST_PACKED


@cache
def best_kernel() -> Kernel | None:
    """The products that this machine uses: MKL's on an Intel processor, oneDNN's on any other. If torch lacks that
    library or it is wrong here, the other one's. None where torch has no MKL: it is not built for x86."""
    if not hasattr(torch.ops.mkl, "_mkl_linear"):
        return None
    order = (MKL, ONEDNN) if by_intel() else (ONEDNN, MKL)
    return next((one for one in order if agrees(one)), None)


def by_intel() -> bool:
    """Whether the processor is one of Intel's."""
    file = Path("/proc/cpuinfo")
    return "GenuineIntel" in (file.read_text(errors="replace") if file.is_file() else platform.processor())


def agrees(kernel: Kernel) -> bool:
    """Whether torch has a kernel here, and its products are right."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(129, 67, generator=generator), torch.randn(129, generator=generator)
    try:
        with torch.no_grad():
            packed = kernel.pack(weight)
            inputs = [torch.randn(rows, 67, generator=generator) for rows in (kernel.least, 7, 33, 301, 600)]
            pairs = [(kernel.product(x, packed, weight, bias), linear(x, weight, bias)) for x in inputs]
    except (RuntimeError, AttributeError):
        return False
    return all(bool((ours - plain).norm() <= TOLERANCE * plain.norm()) for ours, plain in pairs)
