"""Forwards of layers for a while in which a model's weights and adapters stay as they are.

A decoding step of a small model is short, and what layers look up and check at each call is a visible part of it. Here
they do so once.
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
    """Let the layers of a model in eval mode compute with the weights that they have now, until the context ends.

    Two kinds of layers make use of it: LoRA layers of PEFT with one adapter, and those with a method
    ``steady_forward``, which gives a function to compute with, or None if there is none. Both compute what they always
    do. A layer whose ``forward`` was replaced by someone else stays as it is.
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
    """What PEFT's LoRA layer computes, its adapter looked up; None for other layers, and where there is more to it."""
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
    """Whether a layer does nothing but multiply by its weight."""
    return type(layer) is nn.Linear and layer.bias is None and not (layer._forward_hooks or layer._forward_pre_hooks)
