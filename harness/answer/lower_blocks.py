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
from functools import cached_property, partial
from itertools import count
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor

from harness.errors import UserError
from harness.store.json_files import digest
from harness.store.tensor_cache import TensorCache
from harness.store.versions import LOGPS_VERSION
from sail.prefill import backbone, positions, shifted_rows
from sail.types import SAMPLER_VERSION

TOLERANCE = 1e-4
"""Largest difference of hidden states, as a share of the largest: between a whole forward pass and one that passes
blocks by, and between the lower blocks of two policies."""

SECONDS = "seconds"


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
        self._key = [*versions, identity, len(blocks)]
        self._cache, self._charge = cache, charge

    def part(self, *key: Any) -> Part:
        """A part of the work on texts.

        Args:
            key: JSON values, all that decides about the inputs of its forward passes.
        """
        if not self._is_confirmed:
            return Part()
        name = digest([*self._key, *key])
        kept = self._cache.get(name)
        if kept is None:
            return Part(False, lambda: self._keeping(name))
        self._charge(float(kept[SECONDS]))
        return Part(True, lambda: self._passing_by(kept))

    @contextmanager
    def _keeping(self, name: str) -> Iterator[None]:
        """Keep what the lower blocks give."""
        with self._recording() as outputs:
            yield
        if outputs:
            self._cache.put(name, outputs)

    @contextmanager
    def _recording(self) -> Iterator[dict[str, Tensor]]:
        """What the lower blocks give in each forward pass, by its number, and the seconds that they take."""
        outputs: dict[str, Tensor] = {}
        numbers, began = count(), 0.0

        def begin(block: Any, args: Any) -> None:
            nonlocal began
            began = time.perf_counter()

        def end(block: Any, args: Any, output: Tensor) -> None:
            seconds = outputs.get(SECONDS, torch.zeros((), dtype=torch.float64)) + (time.perf_counter() - began)
            outputs.update({SECONDS: seconds, str(next(numbers)): output.clone()})

        hooks = (self._blocks[0].register_forward_pre_hook(begin), self._blocks[-1].register_forward_hook(end))
        try:
            yield outputs
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _passing_by(self, kept: dict[str, Tensor]) -> Iterator[None]:
        """Pass the lower blocks by: the last of them gives what is kept."""
        outputs = (kept.get(str(number)) for number in count())
        for place, block in enumerate(self._blocks):
            block.forward = partial(_pass_by, place, outputs if block is self._blocks[-1] else None)
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


def _pass_by(
    place: int,
    outputs: Iterator[Tensor | None] | None,
    hidden_states: Tensor,
    *args: Any,
    past_key_values: Any = None,
    **options: Any,
) -> Tensor:
    """In place of a block's forward: its key-value cache grows as ever, by zeros of width 1.

    Args:
        place: of the block, from the bottom.
        outputs: of the last lower block, in the order of forward passes; None for those below it.
        hidden_states: the block's input, (rows, length, hidden size).
        args, options: further inputs of a block.
        past_key_values: the key-value cache of the model, if any.
    """
    if past_key_values is not None:
        if place < len(past_key_values.layers) and (states := past_key_values.layers[place]).is_initialized:
            states.keys, states.values = states.keys[:, :1, :, :1], states.values[:, :1, :, :1]
        zeros = hidden_states.new_zeros(len(hidden_states), 1, hidden_states.shape[1], 1)
        past_key_values.update(zeros, zeros, place)
    if outputs is None:
        return hidden_states
    output = next(outputs)
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
