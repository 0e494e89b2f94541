"""A key-value cache that decoding appends to in place.

transformers' ``DynamicCache`` concatenates, that is copies, all its keys and values at every token; at 64 rows of 1,500
tokens of SmolLM2 this takes three times as long as the rest of a step (``python -m tests.speed.decoding``). Here a
layer keeps buffers with room at the end, writes each new token into them, and shows the model the part that is filled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

LEAST_ROOM = 64


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, each (B, heads, L, width), as views of buffers that hold more than L tokens."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._place(keys, values)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append new positions; keys and values of all positions."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            self._place(self.keys, self.values, end)
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        self.keys[..., start:, :] = key_states
        self.values[..., start:, :] = value_states
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order."""
        self._place(self.keys, self.values, rows=indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row ``repeats`` times, side by side."""
        self.batch_select_indices(torch.arange(len(self.keys), device=self.device).repeat_interleave(repeats))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """As :meth:`batch_select_indices`, for beam search."""
        self.batch_select_indices(beam_idx.to(self.device))

    def _place(self, keys: Tensor, values: Tensor, end: int = 0, rows: Tensor | None = None) -> None:
        """Copy into new buffers, the chosen rows only, with a quarter of the length (at least 64 tokens) to spare."""
        length = keys.shape[-2]
        total = max(length, end) + max(LEAST_ROOM, length // 4)
        self._buffers = tuple(_buffer(states, total, rows) for states in (keys, values))
        self.keys, self.values = (buffer[..., :length, :] for buffer in self._buffers)


def _buffer(states: Tensor, total: int, rows: Tensor | None) -> Tensor:
    batch, heads, length, width = states.shape
    buffer = states.new_empty(batch if rows is None else len(rows), heads, total, width)
    if rows is None:
        buffer[..., :length, :] = states
    else:
        torch.index_select(states, 0, rows, out=buffer[..., :length, :])
    return buffer


def with_room(cache: Any) -> Any:
    """The same cache, its plain layers replaced; sliding, recurrent and other special layers stay as they are."""
    for at, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.is_initialized and layer.keys.dim() == 4:
            cache.layers[at] = GrowingLayer(layer.keys, layer.values)
    return cache
