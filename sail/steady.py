"""Layers of a model whose weights do not change for a while, as while it samples.

A decoding step of a small model is short. What layers look up and check at each call is a visible part of it, so here
they do it once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear

Forward = Callable[..., Tensor]


@contextmanager
def steady(model: Any) -> Iterator[None]:
    """Let the layers of a model compute with the weights that they have now, until the context ends.

    It changes two kinds of layers: LoRA layers of PEFT in eval mode with one adapter, and layers that have a method
    ``steady_forward``. That method returns the function to compute with, or None to leave the layer alone. Outputs are
    the same to the last bit. A layer whose ``forward`` was replaced before stays as it is.

    Args:
        model: of PyTorch. Nothing may change its weights, adapters or mode within the context.
    """
    own = (part for part in model.modules() if "forward" not in vars(part))
    forwards = {part: forward for part in own if (forward := _forward(part))}
    for part, forward in forwards.items():
        part.forward = forward
    try:
        yield
    finally:
        for part in forwards:
            del part.forward


def _forward(part: nn.Module) -> Forward | None:
    make = getattr(part, "steady_forward", None)
    return make() if make is not None else _lora_forward(part)


def _lora_forward(part: Any) -> Forward | None:
    """What a LoRA layer of PEFT computes, with its adapter looked up.

    None for other layers, and for one with more than two products: DoRA, a bias, several adapters, one merged.
    """
    lora = sys.modules.get("peft.tuners.lora.layer")
    if lora is None or type(part) is not lora.Linear or part.training or part.disable_adapters or part.merged:
        return None
    names = [name for name in part.active_adapters if name in part.lora_A]
    if len(names) != 1 or names[0] in part.lora_variant:
        return None
    (name,), base, whole = names, part.base_layer, part.forward
    first, second, scaling = part.lora_A[name], part.lora_B[name], part.scaling[name]
    if not (_is_plain(first) and _is_plain(second)):
        return None
    down, up, precision = first.weight, second.weight, base.weight.dtype

    def forward(x: Tensor, *others: Any, **named: Any) -> Tensor:
        if others or named or not (x.dtype == down.dtype == precision):
            output: Tensor = whole(x, *others, **named)
            return output
        return base(x) + linear(linear(x, down), up) * scaling  # type: ignore[no-any-return]

    return forward


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer does nothing but multiply by its weight, which is there: Accelerate replaces the forward of one
    whose weight is elsewhere until then."""
    changed = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    return type(layer) is nn.Linear and layer.bias is None and not changed
