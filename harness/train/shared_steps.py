"""The frozen lower blocks in training: what they give for a batch of stored pairs is computed once for all trainings.

With an adapter on the top blocks, nothing below them changes while a policy trains. Trials of a search and offline
methods go through the same pairs in the same batches, so that each of them but the first reads what the first has
computed (:class:`harness.answer.lower_blocks.LowerBlocks`). The blocks above compute on the same tensors as ever.
"""

from __future__ import annotations

import inspect
import platform
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from harness.answer.lower_blocks import LowerBlocks
from harness.budget.meter import Meter
from harness.budget.watched_model import recomputes_activations
from sail.prefill import backbone
from sail.shared_prompts import drops

READ = ("input_ids", "attention_mask", "position_ids")
"""Inputs of a backbone that decide about the hidden states of its lower blocks."""


class SharedSteps:
    """Takes the place of a backbone's ``forward``, and passes its lower blocks by where that changes no number.

    A forward is computed whole if it is without gradient, if one of its rows is not of a stored pair, or if it asks for
    more than hidden states. So it is if the lower blocks or what is below them train, drop values, get noise, were
    changed since the model was loaded, or would be computed again in the backward pass; and in a copy of the model,
    under ``torch.compile``, and on several processes.

    Args:
        model: a causal language model of transformers, as it was loaded.
        blocks: its lowest ones.
        make: gives what keeps their outputs, once it is needed. Until then nothing here keeps the model in memory.
        meter: of the model; it knows the stored pairs.
    """

    def __init__(
        self, model: Any, blocks: Sequence[Any], make: Callable[[Any, Sequence[Any]], LowerBlocks], meter: Meter
    ) -> None:
        self._model, self._blocks, self._make, self._meter = weakref.ref(model), list(blocks), make, meter
        self._loaded, self.__signature__ = self._state(), inspect.signature(self._body.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the backbone's own."""
        forward = _own_forward(self._body)
        if args or not self._may_share(kwargs):
            return forward(*args, **kwargs)
        attention = self._body.config.get_text_config()._attn_implementation
        arithmetic = [processor(), torch.get_num_threads(), torch.get_float32_matmul_precision(), attention]
        with self._lower.part("training", arithmetic, _digest(kwargs)).running():
            return forward(**kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the backbone has the forward of its class."""
        return _own_forward(memo[id(self._body)])

    @property
    def _body(self) -> Any:
        return backbone(self._model())

    @cached_property
    def _lower(self) -> LowerBlocks:
        return self._make(self._model(), self._blocks)

    def _may_share(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether the lower blocks of this forward may be passed by, or kept."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or _is_distributed():
            return False
        more = any(value is not None and value is not False for name, value in kwargs.items() if name not in READ)
        if more or kwargs.get("input_ids") is None or kwargs.get("use_cache") is not False:
            return False
        if not self._meter.trains_stored or self._drops or recomputes_activations(self._body):
            return False
        if self._body.get_input_embeddings()._forward_hooks:  # they add noise, or ask for a gradient
            return False
        return not any(weight.requires_grad for weight in self._weights()) and self._state() == self._loaded

    @cached_property
    def _drops(self) -> bool:
        return any(drops(module) for module in self._body.modules())

    def _weights(self) -> Iterator[torch.nn.Parameter]:
        """All of the backbone but those of the blocks above."""
        yield from self._body.parameters(recurse=False)
        for part in self._body.children():
            for module in self._blocks if self._blocks[0] in part.children() else [part]:
                yield from module.parameters()

    def _state(self) -> list[tuple[int, int]]:
        """Where these weights are, and torch's count of their changes."""
        return [(weight.data_ptr(), weight._version) for weight in self._weights()]


def _own_forward(body: Any) -> Any:
    """The forward of a module's class."""
    return types.MethodType(type(body).forward, body)


def _digest(kwargs: Mapping[str, Any]) -> str:
    """Of the tensors that a backbone reads."""
    read = blake2b(digest_size=16)
    for name in READ:
        if (tensor := kwargs.get(name)) is not None:
            read.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            read.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return read.hexdigest()


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


@cache
def processor() -> str:
    """The model of this machine's CPU: sums of another one may round otherwise."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or platform.machine())}, {torch.backends.cpu.get_cpu_capability()}"
