"""The prompt of a pair is computed once: both responses follow it in one row, and a mask hides each from the other.

TRL's collator gives rows [chosen..., rejected...]. Before the backbone (the model without its LM head) two rows of a
pair become one, which holds what they begin with once; behind it the hidden states are laid out as those of two rows.
Whatever comes before and after sees what it has always seen, and gets the same values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sail.prefill import backbone
from sail.prompt_rules import longest_shared, mask_fits, plain_because, sharing_pays

logger = logging.getLogger(__name__)

READ = ("input_ids", "attention_mask", "use_cache")
"""Inputs of a forward that may share prompts; with any other it gets plain rows."""

NEARNESS, HALF_NEARNESS = 5e-3, 0.1
"""Of the hidden states of shared and plain rows in the probe, as a share of their norm; the second in half precision.
In a small random Llama they are 2e-7 and 0.005 apart; 0.016 with wrong positions, 0.5 where the responses see each
other. float32 may be multiplied by TF32."""


class PackedPairs(NamedTuple):
    """B pairs as B rows of S tokens: what both rows begin with, the rest of the first row, the rest of the second.

    Attributes:
        ids: token ids, (B, S).
        positions: position ids, (B, S); those of the second row's rest go on from what is shared.
        allowed: whether a token sees another, (B, 1, S, S). Padding sees the first token only, not itself.
        places: where the states of the 2B plain rows (2B, L) are in the flattened packed rows (B * S).
    """

    ids: Tensor
    positions: Tensor
    allowed: Tensor
    places: Tensor


class PairLengths(NamedTuple):
    """Tokens of each pair's first and second row, and of what they have in common at the beginning; each (B,)."""

    first: Tensor
    second: Tensor
    common: Tensor

    @property
    def packed(self) -> Tensor:
        """Tokens of each packed row, (B,)."""
        return self.first + self.second - self.common


def pair_lengths(ids: Tensor, mask: Tensor) -> PairLengths:
    """Lengths of B pairs.

    Args:
        ids: rows [first..., second...] of token ids, (2B, L), padded on the right.
        mask: attention mask, (2B, L).
    """
    (first, second), (mask_1, mask_2) = ids.chunk(2), mask.bool().chunk(2)
    same = (first == second) & mask_1 & mask_2
    return PairLengths(mask_1.sum(1), mask_2.sum(1), same.long().cumprod(1).sum(1))


def packed_pairs(ids: Tensor, lengths: PairLengths, width: int) -> PackedPairs:
    """B pairs as packed rows.

    Args:
        ids: rows [first..., second...] of token ids, (2B, L), padded on the right.
        lengths: of the pairs.
        width: tokens of the longest packed row (S).
    """
    pairs, length = len(ids) // 2, ids.shape[1]
    device = ids.device
    first, common = lengths.first[:, None], lengths.common[:, None]
    row = torch.arange(pairs, device=device)[:, None]

    packed = torch.arange(width, device=device)[None]
    behind = packed >= first  # in the second row's rest, or in the padding
    positions = torch.where(behind, common + packed - first, packed).clamp(max=length - 1)
    sources = (row + pairs * behind) * length + positions

    query, key = packed[:, :, None], packed[:, None, :]
    sees = (key <= query) & ((key < common[..., None]) | (behind[:, None, :] == behind[:, :, None]))
    real = (packed < lengths.packed[:, None])[:, :, None]
    allowed = torch.where(real, sees, key == 0)

    plain = torch.arange(length, device=device)[None]
    in_second = torch.where(plain < common, plain, first + plain - common)
    places = row.repeat(2, 1) * width + torch.cat([plain.expand(pairs, -1), in_second]).clamp(max=width - 1)
    return PackedPairs(ids.flatten()[sources], positions, allowed[:, None], places)


def packed_inputs(packed: PackedPairs, body: Any) -> dict[str, Tensor]:
    """Packed rows as inputs of a backbone, whose eager attention adds the mask to its scores.

    Args:
        packed: the rows.
        body: the backbone.
    """
    mask = packed.allowed
    if body.config.get_text_config()._attn_implementation == "eager":
        lowest = torch.finfo(body.dtype).min
        mask = torch.zeros(mask.shape, dtype=body.dtype, device=mask.device).masked_fill(~mask, lowest)
    return {"input_ids": packed.ids, "attention_mask": mask, "position_ids": packed.positions}


def unpacked(states: Tensor, places: Tensor) -> Tensor:
    """Hidden states (2B, L, H) of plain rows; those of padding are any.

    Args:
        states: of packed rows, (B, S, H).
        places: see :class:`PackedPairs`.
    """
    return states.flatten(0, 1).index_select(0, places.flatten()).view(*places.shape, -1)


class _Hooks:
    """What runs before and after one backbone. ``window``: tokens of a row up to which its sliding window does
    nothing."""

    def __init__(self, body: Any) -> None:
        config = body.config.get_text_config()
        self.body, self.hidden, self.window = body, int(config.hidden_size), longest_shared(config.to_dict())
        self.places: Tensor | None = None

    def before(self, module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Packed rows in place of the plain ones, where that is possible and pays."""
        self.places = None
        packed = None if args else self.packed(kwargs)
        if packed is None:
            return None
        self.places = packed.places
        return (), kwargs | packed_inputs(packed, self.body)

    def packed(self, kwargs: dict[str, Any]) -> PackedPairs | None:
        """The packed rows of a forward's inputs; None if it gets plain ones."""
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        others = any(value is not None and value is not False for name, value in kwargs.items() if name not in READ)
        if ids is None or mask is None or mask.shape != ids.shape or len(ids) % 2 or others or kwargs.get("use_cache"):
            return None
        if self.window is not None and ids.shape[1] > self.window:
            return None
        lengths = pair_lengths(ids, mask)
        on_the_right = (mask[:, 1:] <= mask[:, :-1]).all()
        width, padded_right = (int(n) for n in torch.stack([lengths.packed.max(), on_the_right.long()]).tolist())
        pays = sharing_pays(ids.shape[1], width, self.hidden) and mask_fits(len(ids) // 2, width)
        if not padded_right or not pays:
            return None
        return packed_pairs(ids, lengths, width)

    def after(self, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Hidden states as of plain rows."""
        if self.places is not None:
            output.last_hidden_state = unpacked(output.last_hidden_state, self.places)
            self.places = None
        return output


class PromptSharing:
    """Shares prompts in the forwards of some models, wherever that changes nothing but the time.

    A model gets plain rows if its configuration speaks against it (:func:`sail.prompt_rules.plain_because`), if dropout
    would draw once where it drew twice, or if a small pair has other hidden states in a packed row. So does a batch
    that is longer than a sliding window, is not padded on the right, has inputs beside token ids, asks for the routers'
    loss of a mixture of experts, or would save nothing (:func:`sail.prompt_rules.sharing_pays`).

    Args:
        models: causal language models, with their adapters.

    Attributes:
        refused: by class name of a model, why it gets plain rows.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        self.refused: dict[str, str] = {}
        self._hooks: list[_Hooks] = []
        self._active = False
        for model in models:
            body = backbone(model)
            reason = _refusal(body)
            if reason is None:
                self._hooks.append(_Hooks(body))
            else:
                self.refused[type(body).__name__] = reason
                logger.info("%s computes the prompt of a pair twice: %s", type(body).__name__, reason)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Share prompts in all forwards inside, whose rows must be those of pairs."""
        if self._active:
            yield
            return
        handles = []
        for hooks in self._hooks:  # behind other hooks, so that a meter sees the rows that are computed
            handles.append(hooks.body.register_forward_pre_hook(hooks.before, with_kwargs=True))
            handles.append(hooks.body.register_forward_hook(hooks.after, with_kwargs=True))
        self._active = True
        try:
            yield
        finally:
            self._active = False
            for handle in handles:
                handle.remove()


def _refusal(body: Any) -> str | None:
    """Why a backbone gets plain rows; None if it can share prompts."""
    config = body.config.get_text_config()
    reason = plain_because(body.config.to_dict(), config._attn_implementation)
    if reason is not None:
        return reason
    if any(weight.is_meta or hasattr(weight, "ds_id") for weight in body.parameters()):
        return "its weights are not in memory"
    if any(drops(module) for module in body.modules()):
        return "dropout would draw once for both rows"
    return None if _probe(body) else "a packed row gives other hidden states"


def drops(module: Any) -> bool:
    """Whether a module drops values in training, as a layer or inside of a fused kernel."""
    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        return module.p > 0
    return any(isinstance(v, float) and v > 0 for name, v in vars(module).items() if "dropout" in name)


@torch.no_grad()
def _probe(body: Any) -> bool:
    """Whether two small pairs have the same hidden states in packed rows as in plain ones.

    ``forward`` is called without hooks: nothing that counts or shares runs.
    """
    vocabulary = int(body.get_input_embeddings().weight.shape[0])
    device = body.get_input_embeddings().weight.device
    drawn = torch.randint(vocabulary, (2, 24), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [row[:7] + row[start:end] for start, end in ((7, 15), (15, 20)) for row in drawn]
    rows[1], rows[3] = rows[1][1:], rows[3][1:]  # pairs of different lengths
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
    lengths = pair_lengths(ids, mask)
    packed = packed_pairs(ids, lengths, int(lengths.packed.max()))
    training = [module for module in body.modules() if module.training]
    body.eval()
    try:
        plain = body.forward(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        shared = body.forward(**packed_inputs(packed, body), use_cache=False).last_hidden_state
    except Exception:  # noqa: BLE001 - it has no such inputs, or cannot read such a mask
        return False
    finally:
        for module in training:
            module.training = True
    plain, shared = plain[mask.bool()].double(), unpacked(shared, packed.places)[mask.bool()].double()
    distance = (plain - shared).norm(dim=-1) / plain.norm(dim=-1)
    return bool((distance <= (HALF_NEARNESS if body.dtype.itemsize < 4 else NEARNESS)).all())
