"""What TRL's fused LM head does with a tile of logits, on a CPU: in place, a few rows at a time.

TRL 1.16 has a kernel for GPUs and plain operations for other devices. Those go through the tile of 33 MB some fifteen
times in the forward and ten in the backward, each time through the main memory; here a part of the rows stays in the
processor's cache. The values are the same, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

AT_ONCE = 1 << 18
"""Logits that are worked on at once: 1 MB."""


def use_head_tiles() -> None:
    """Let TRL's fused LM head work in place on a CPU, where its logits are float32 and have no soft cap."""
    from trl.kernels import chunked_logprob

    for name, ours in (("_forward_tile", forward_tile), ("_backward_tile", backward_tile)):
        theirs = getattr(chunked_logprob, name)
        if not hasattr(theirs, "instead_of"):
            setattr(chunked_logprob, name, _either(ours, theirs))


def _either(ours: Callable[..., None], theirs: Callable[..., None]) -> Callable[..., None]:
    def tile_function(tile: Tensor, *args: Any, **flags: Any) -> None:
        capped = flags["HAS_SOFTCAP"] or flags.get("HAS_ENTROPY_GRAD") or flags.get("HAS_LOG_SUM_SQ_PROBS")
        plain = tile.device.type == "cpu" and tile.dtype == torch.float32 and not capped
        (ours if plain else theirs)(tile, *args, **flags)

    tile_function.instead_of = theirs  # type: ignore[attr-defined]
    return tile_function


def forward_tile(
    tile: Tensor,
    tile_stride: int,
    targets: Tensor,
    running_max: Tensor,
    sum_exp: Tensor,
    x_sum_exp: Tensor,
    sq_sum_exp: Tensor,
    z_sum: Tensor,
    max_before_target: Tensor,
    target_logit: Tensor,
    vocab_start: int,
    n_cols: int,
    **flags: Any,
) -> None:
    """Add a tile to the running statistics of its tokens, each (N,).

    Args:
        tile: logits of N tokens, (N, n_cols), before they are scaled; overwritten.
        tile_stride: not used.
        targets: ids of the tokens that are scored.
        running_max: highest logit so far.
        sum_exp: sum of exp(logit - running_max).
        x_sum_exp: the same, each term times its logit.
        sq_sum_exp: not used.
        z_sum: sum of the logits.
        max_before_target: what no logit before the target's may reach if the target is the most likely token: it is
            exact where that decides.
        target_logit: logit of the target, once its tile was there.
        vocab_start: id of the tile's first column.
        n_cols: columns of the tile.
        **flags: TRL's: factors of the logits, and which statistics are wanted.
    """
    scale = flags["logit_scale"] * flags["inv_t"]
    step = max(1, AT_ONCE // n_cols)
    for start in range(0, len(tile), step):
        rows = slice(start, start + step)
        z = tile[rows] if scale == 1 else tile[rows].mul_(scale)
        local, old_max = targets[rows] - vocab_start, running_max[rows]
        own = z.gather(-1, local.clamp(0, n_cols - 1)[:, None])[:, 0]
        here, peak = (local >= 0) & (local < n_cols), z.amax(-1)
        if flags["HAS_MEAN_LOGITS"]:
            z_sum[rows] += z.sum(-1)
        if flags["HAS_IS_TOP1"]:
            before = torch.where(local >= n_cols, peak, -torch.inf)
            for row in (here & (own == peak)).nonzero()[:, 0].tolist():  # an earlier token may be as likely
                before[row] = z[row, : local[row]].amax() if local[row] else -torch.inf
            max_before_target[rows] = torch.maximum(max_before_target[rows], before)
        new_max = torch.maximum(old_max, peak)
        shifted = z.sub_(new_max[:, None])
        weights = shifted.exp()
        rescale, total = (old_max - new_max).exp_(), weights.sum(-1)
        sum_exp[rows] = sum_exp[rows] * rescale + total
        if flags["HAS_ENTROPY"]:
            products = (weights[:, None] @ shifted[..., None])[:, 0, 0]
            x_sum_exp[rows] = x_sum_exp[rows] * rescale + products + new_max * total
        running_max[rows] = new_max
        target_logit[rows] = torch.where(here, own, target_logit[rows])


def backward_tile(
    tile: Tensor,
    tile_stride: int,
    targets: Tensor,
    log_z: Tensor,
    entropy: Tensor,
    grad_logprobs: Tensor,
    grad_entropy: Tensor,
    vocab_start: int,
    n_cols: int,
    **flags: Any,
) -> None:
    """Turn a tile of logits into the gradient of the loss with respect to them.

    Args:
        tile: logits of N tokens, (N, n_cols), before they are scaled; overwritten.
        tile_stride: not used.
        targets: ids of the tokens that are scored, (N,).
        log_z: logarithm of the sum of the exponentials of a token's logits, (N,).
        entropy: not used.
        grad_logprobs: gradient with respect to the log-probabilities, (N,).
        grad_entropy: not used.
        vocab_start: id of the tile's first column.
        n_cols: columns of the tile.
        **flags: TRL's: factors of the logits, and whether there is a gradient.
    """
    if not flags["HAS_LOGPROB_GRAD"]:
        tile.zero_()
        return
    scale = flags["logit_scale"] * flags["inv_t"]
    step = max(1, AT_ONCE // n_cols)
    for start in range(0, len(tile), step):
        rows = slice(start, start + step)
        z = tile[rows] if scale == 1 else tile[rows].mul_(scale)
        gradient = grad_logprobs[rows] * scale
        z.sub_(log_z[rows, None]).exp_().mul_(-gradient[:, None])
        local = targets[rows] - vocab_start
        (here,) = ((local >= 0) & (local < n_cols)).nonzero(as_tuple=True)
        z[here, local[here]] += gradient[here]
