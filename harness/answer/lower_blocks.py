"""The lowest blocks of the policies of a comparison, computed once for all of them.

An adapter on the top blocks leaves those below as they are in the start policy. What these give for a text is kept on
disk, where the next policy reads it, in whatever process and order. All else of a forward pass is the model's own: the
blocks are passed by where they stand, so that embeddings, masks, positions and the blocks above are as ever, and a
meter on the backbone counts what the whole pass would cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from functools import cached_property, partial
from itertools import count
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from harness.answer.packed_weights import packed_by
from harness.errors import UserError
from harness.store.json_files import digest
from harness.store.tensor_cache import TensorCache
from harness.store.versions import LOGPS_VERSION
from sail.kvcache import GrowingLayer
from sail.prefill import Prefilled, backbone, positions, prefill, shifted_rows
from sail.types import SAMPLER_VERSION

TOLERANCE = 1e-4
"""Largest difference of hidden states, as a share of the largest: between a whole forward pass and one that passes
blocks by, and between the lower blocks of two policies."""

SECONDS = "seconds"

STATES = ("keys", "values")

PLAIN_LAYERS = (DynamicLayer, GrowingLayer)
"""Layers of a key-value cache that hold every position."""


class Part(NamedTuple):
    """Forward passes on one batch, with what they add to its key-value cache.

    Attributes:
        is_kept: whether the lower blocks are passed by. Then the key-value cache holds nothing of them but lengths.
        running: gives the context to compute in.
    """

    is_kept: bool = False
    running: Callable[[], AbstractContextManager[Any]] = nullcontext


class LowerBlocks:
    """The lowest blocks of a policy, which are those of the start policy.

    On a small batch, passing them by must give the hidden states of a whole pass, and they must give what those of the
    policies before gave. Otherwise every pass is computed whole.

    Args:
        model: a causal language model of transformers.
        blocks: its lowest ones.
        identity: names the weights of the start policy, and how they are computed with.
        cache: of their outputs.
        charge: called with the seconds that a kept output took when it was computed.
    """

    def __init__(
        self, model: Any, blocks: Sequence[Any], identity: str, cache: TensorCache, charge: Callable[[float], None]
    ) -> None:
        self._body, self._blocks = backbone(model), blocks
        versions = [LOGPS_VERSION, SAMPLER_VERSION, torch.__version__, transformers.__version__]
        self._key = [*versions, identity, len(blocks), packed_by(blocks)]
        self._cache, self._charge = cache, charge
        self.prompts_only = False

    @cached_property
    def of_prompts(self) -> LowerBlocks:
        """The same blocks for texts of which other policies share the prompts alone."""
        other = copy(self)
        other.prompts_only = True
        return other

    def part(self, *key: Any) -> Part:
        """A part of the work on texts that policies share, whose forward passes no later one goes on from.

        Args:
            key: JSON values, all that decides about the inputs of its forward passes.
        """
        return Part() if self.prompts_only else self._part(key, states=False)

    def prompts(self, *key: Any) -> Part:
        """Prompts, from whose key-value cache later passes go on: that of the lower blocks is kept with their outputs.

        Args:
            key: JSON values, all that decides about the inputs of its forward passes.
        """
        return self._part(("prompts", *key), states=True)

    def _part(self, key: tuple[Any, ...], *, states: bool) -> Part:
        if not self._is_confirmed:
            return Part()
        name = digest([*self._key, *key])
        kept = self._cache.get(name)
        if kept is None:
            return Part(False, lambda: self._keeping(name, states=states))
        self._charge(float(kept[SECONDS]))
        return Part(True, lambda: self._passing_by(kept))

    @contextmanager
    def _keeping(self, name: str, *, states: bool) -> Iterator[None]:
        """Keep what the lower blocks give (``states``: and their keys and values)."""
        with self._recording(states=states) as outputs:
            yield
        if outputs:
            self._cache.put(name, outputs)

    @contextmanager
    def _recording(self, *, states: bool = False) -> Iterator[dict[str, Tensor]]:
        """What the lower blocks give in each forward pass, by its number, and the seconds that they take.

        Nothing where keys and values are asked for (``states``) and the model keeps them in another way.
        """
        outputs: dict[str, Tensor] = {}
        numbers, began, broken = count(), 0.0, False

        def begin(block: Any, args: Any) -> None:
            nonlocal began
            began = time.perf_counter()

        def end(block: Any, args: Any, options: dict[str, Any], output: Tensor) -> None:
            nonlocal broken
            seconds = outputs.get(SECONDS, torch.zeros((), dtype=torch.float64)) + (time.perf_counter() - began)
            number = str(next(numbers))
            outputs.update({SECONDS: seconds, number: output.clone()})
            if states:
                new = _new_states(options.get("past_key_values"), len(self._blocks), output.shape[1])
                broken = broken or new is None
                outputs.update({f"{number} {kind}": tensor for kind, tensor in (new or {}).items()})
            if broken:
                outputs.clear()

        hooks = (
            self._blocks[0].register_forward_pre_hook(begin),
            self._blocks[-1].register_forward_hook(end, with_kwargs=True),
        )
        try:
            yield outputs
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _passing_by(self, kept: dict[str, Tensor]) -> Iterator[None]:
        """Pass the lower blocks by: the last of them gives what is kept."""
        passes = _Kept(kept)
        for place, block in enumerate(self._blocks):
            block.forward = partial(_pass_by, place, place == len(self._blocks) - 1, passes)
        try:
            yield
        finally:
            for block in self._blocks:
                del block.forward

    @cached_property
    def _is_confirmed(self) -> bool:
        """Whether the model takes a pass by its lower blocks, and these are those of the policies before."""
        try:
            with self._recording() as outputs:
                whole = self._probe()
            with self._passing_by(outputs):
                passed = self._probe()
        except Exception:  # noqa: BLE001 - a model of another kind may raise anything
            return False
        name = digest([*self._key, "probe"])
        before = self._cache.get(name)
        if before is None:
            self._cache.put(name, before := outputs)
        hidden = [key for key in outputs if key != SECONDS]
        return _agree(passed, whole) and all(_agree(outputs[key], before.get(key)) for key in hidden)

    @torch.no_grad()
    def _probe(self) -> Tensor:
        """Hidden states of a small batch with a shared prefix and padding. No meter counts its passes."""
        rows = self._body.get_input_embeddings().weight.shape[0]
        ids = (torch.arange(16, device=self._body.device) * 7 + 3).view(2, 8) % rows
        mask = torch.ones_like(ids)
        mask[1, 0] = 0
        cache = transformers.DynamicCache()
        self._body.forward(input_ids=ids[:1, :4], past_key_values=cache, use_cache=True)
        inputs = {"input_ids": ids[:, 4:], "attention_mask": mask, "position_ids": positions(mask)[:, 4:]}
        cache = shifted_rows(cache, 4, [0, 1])
        hidden: Tensor = self._body.forward(**inputs, past_key_values=cache, use_cache=True).last_hidden_state
        return hidden


class _Kept:
    """What is kept of one forward pass after the other.

    Args:
        tensors: by number of the pass; of its keys and values, if they are kept, after a blank.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors, self._number = tensors, 0

    def states(self, place: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values that a block adds to the cache in this pass, if they are kept."""
        kept = [self._tensors.get(f"{self._number} {kind}") for kind in STATES]
        return None if kept[0] is None or kept[1] is None else (kept[0][place], kept[1][place])

    def output(self) -> Tensor | None:
        """Of the last block. The pass is over with it."""
        self._number += 1
        return self._tensors.get(str(self._number - 1))


def _new_states(cache: Any, blocks: int, length: int) -> dict[str, Tensor] | None:
    """Keys and values (blocks, rows, heads, length, width) of the newest tokens in the lowest blocks' caches; None for
    a cache of another kind."""
    layers = cache.layers[:blocks] if cache is not None else []
    plain = [layer for layer in layers if type(layer) in PLAIN_LAYERS]
    if not plain or len(plain) < blocks:
        return None
    return {kind: torch.stack([getattr(layer, kind)[..., -length:, :] for layer in plain]) for kind in STATES}


def _pass_by(
    place: int,
    last: bool,
    kept: _Kept,
    hidden_states: Tensor,
    *args: Any,
    past_key_values: Any = None,
    **options: Any,
) -> Tensor:
    """In place of a block's forward: its key-value cache grows as ever, by what is kept, else by zeros of width 1.

    Args:
        place: of the block, from the bottom.
        last: whether it is the last lower block, which gives what is kept.
        kept: of the lower blocks.
        hidden_states: the block's input, (rows, length, hidden size).
        args, options: further inputs of a block.
        past_key_values: the key-value cache of the model, if any.
    """
    if past_key_values is not None:
        if (states := kept.states(place)) is not None:
            past_key_values.update(*states, place)
        else:
            if place < len(past_key_values.layers) and (layer := past_key_values.layers[place]).is_initialized:
                layer.keys, layer.values = layer.keys[:, :1, :, :1], layer.values[:, :1, :, :1]
            zeros = hidden_states.new_zeros(len(hidden_states), 1, hidden_states.shape[1], 1)
            past_key_values.update(zeros, zeros, place)
    if not last:
        return hidden_states
    output = kept.output()
    if output is None or output.shape != hidden_states.shape:
        raise UserError("The store's hidden states are of another version: remove them by 'sail-bench store gc --yes'")
    return output


def _agree(ours: Tensor, theirs: Tensor | None) -> bool:
    """Whether hidden states agree to rounding."""
    if theirs is None or ours.shape != theirs.shape:
        return False
    return bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())


def part_of(lower: LowerBlocks | None, *key: Any) -> Part:
    """:meth:`LowerBlocks.part`; without lower blocks, one that is computed whole."""
    return Part() if lower is None else lower.part(*key)


@torch.no_grad()
def read_prompts(
    lower: LowerBlocks | None,
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    pad_id: int,
    cached_prefix: tuple[tuple[int, ...], Any] | None = None,
) -> Prefilled:
    """:func:`sail.prefill.prefill`, passing the lower blocks by where what they give for these prompts is kept.

    Args:
        lower: blocks that policies share; None computes all of them.
        model: a causal language model of transformers.
        prompts: token ids.
        pad_id: token id of the padding.
        cached_prefix: as for :func:`~sail.prefill.prefill`.
    """
    shared = list(cached_prefix[0]) if cached_prefix else []
    part = Part() if lower is None else lower.prompts([list(prompt) for prompt in prompts], pad_id, shared)
    with part.running():
        return prefill(model, prompts, pad_id, cached_prefix)
