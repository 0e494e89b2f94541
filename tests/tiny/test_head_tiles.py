"""The tiles of TRL's fused LM head on a CPU, against TRL's own: same statistics, same gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from trl.kernels import chunked_logprob

from sail import head_tiles

WANTED = ("log_probs", "entropy", "mean_logits", "is_top1")
CHUNK, VOCABULARY = 40, 100  # three tiles, the last one smaller


def statistics(changes: dict[str, Any], outputs: tuple[str, ...]) -> list[torch.Tensor]:
    """Outputs of the head for 23 positions, some of whose targets are the most likely token, and gradients."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 16, generator=generator).requires_grad_()
    weight = torch.randn(VOCABULARY, 16, generator=generator)
    weight[70] = weight[71] = weight[20]  # as likely as each other
    with torch.no_grad():
        hidden[:3] = 3 * weight[20]
        targets = (hidden @ weight.t()).argmax(-1)
        targets[:3] = torch.tensor([20, 70, 71])
        targets[12:] = torch.randint(0, VOCABULARY, (11,), generator=generator)
    weight.requires_grad_()
    kernel = {"temperature": 1.0, "softcap": None, "logit_scale": 1.0} | changes
    values = chunked_logprob.ChunkedLogProbFunction.apply(
        hidden, weight, None, targets, kernel["temperature"], CHUNK, kernel["softcap"], kernel["logit_scale"], outputs
    )
    (values[0] * torch.linspace(-1, 1, 23)).sum().backward()
    present = [value.detach().float() for value in values if value is not None]
    assert hidden.grad is not None and weight.grad is not None
    return [*present, hidden.grad, weight.grad]


@pytest.mark.parametrize("at_once", [1, 7 * CHUNK, 1 << 18])
@pytest.mark.parametrize("outputs", [WANTED, ("log_probs",), ("log_probs", "log_sum_sq_probs")])
@pytest.mark.parametrize("changes", [{}, {"temperature": 0.5, "logit_scale": 3.0}, {"softcap": 2.0}])
def test_statistics_and_gradients_are_those_of_trl(
    changes: dict[str, Any], outputs: tuple[str, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_forward_tile", "_backward_tile"):
        tile = getattr(chunked_logprob, name)
        monkeypatch.setattr(chunked_logprob, name, getattr(tile, "instead_of", tile))
    theirs = statistics(changes, outputs)
    calls: list[int] = []
    monkeypatch.setattr(head_tiles, "AT_ONCE", at_once)
    for name in ("forward_tile", "backward_tile"):
        inner = getattr(head_tiles, name)
        monkeypatch.setattr(
            head_tiles, name, lambda *args, inner=inner, **flags: (calls.append(1), inner(*args, **flags))
        )
    head_tiles.use_head_tiles()
    head_tiles.use_head_tiles()  # a second trainer
    ours = statistics(changes, outputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    squares = "log_sum_sq_probs" in outputs
    assert len(calls) == (0 if "softcap" in changes else 3 if squares else 6)
    if outputs is WANTED and not changes:
        assert 9 <= int(theirs[3].sum()) < 23 and theirs[3][:3].tolist() == [1, 0, 0]
