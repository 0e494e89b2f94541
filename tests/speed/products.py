"""Products by packed weights: by the library that this machine uses, against torch's own and the other library's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.answer.load import load_model
from harness.answer.packed_weights import MKL, ONEDNN, Kernel, agrees, best_kernel, filled
from harness.budget.memory import LEAST_PACKED
from tests.speed.measure import Ratio, Setting, Side, Skipped, by_turns, timed
from tests.speed.workbench import Workbench

ROWS = (1, 2, 8, 64, 512)
"""Of a product: a decoding step of one answer, of a pair, of SAIL-PR's four pairs and of a batch; a batch of texts."""


def products(setting: Setting) -> list[Ratio]:
    """The linear layers of the start policy that are packed, one after the other, in billions of operations a second.

    Raises:
        Skipped: this machine packs no weights.
    """
    import torch

    used, bench = best_kernel(), Workbench(setting)
    weights = [layer.weight for layer in load_model(bench.start).modules() if isinstance(layer, torch.nn.Linear)]
    if used is None or weights[0].device.type != "cpu":
        raise Skipped("weights are packed on a CPU for which torch has MKL")
    weights = [weight for weight in weights if weight.numel() >= LEAST_PACKED] or weights  # a tiny model has none
    other = ONEDNN if used is MKL else MKL
    ours = _by_kernel(used, weights)
    others = {"torch's": _plain(weights)} | ({f"{other.name}'s": _by_kernel(other, weights)} if agrees(other) else {})
    ratios = []
    for rows in (rows for rows in ROWS if rows >= used.least):
        inputs = [torch.randn(rows, weight.shape[1]) for weight in weights]
        work = 2 * rows * sum(weight.numel() for weight in weights) / 1e9
        fills = used is ONEDNN and filled(rows) > rows
        plainly = {"no filling up": _by_kernel(replace(ONEDNN, product=_unfilled), weights)} if fills else {}
        for name, theirs in (others | plainly).items():
            line = f"products by {used.name}, batch {rows}, against {name}"
            sides: tuple[Side, Side] = (_rate(work, ours, inputs), _rate(work, theirs, inputs))
            ratios.append(by_turns(line, "GFLOP a second", *sides, setting.repeats))
    return ratios


def _by_kernel(kernel: Kernel, weights: list[Any]) -> Any:
    import torch

    packed = [kernel.pack(weight.detach()) for weight in weights]

    @torch.no_grad()
    def work(inputs: list[Any]) -> None:
        for x, copy, weight in zip(inputs, packed, weights, strict=True):
            kernel.product(x, copy, weight, None)

    return work


def _unfilled(input: Any, packed: Any, weight: Any, bias: Any) -> Any:
    """By oneDNN, with no rows beside those that are asked for."""
    import torch

    return torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")


def _plain(weights: list[Any]) -> Any:
    import torch

    @torch.no_grad()
    def work(inputs: list[Any]) -> None:
        for x, weight in zip(inputs, weights, strict=True):
            torch.nn.functional.linear(x, weight)

    return work


def _rate(work: float, side: Any, inputs: list[Any]) -> Side:
    return lambda place: work / timed(lambda: side(inputs))
