"""Logits of many positions a part at a time, so that their memory is bounded, and log-probabilities of given answers.

A forward of the whole model has logits of all positions in memory at once: 16 rows of 1,024 tokens are 8 GB for a
vocabulary of 128k. Here the backbone runs once, and what follows it (the LM head and what an architecture does to its
logits) once for each part of the positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.budget.memory import LOGITS_AT_ONCE
from sail.prefill import backbone, left_pad, positions

PromptAndAnswer = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt and of a completion of it."""


class _Finished(nn.Module):
    """Stands for a backbone that has run: gives its output, for some of the positions.

    Args:
        output: of the backbone.
        hidden: its hidden states at the positions, (1, n, hidden size).
    """

    def __init__(self, output: Any, hidden: Tensor) -> None:
        super().__init__()
        self._output = copy(output)
        self._output.last_hidden_state = hidden

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._output


class LogitsPart(NamedTuple):
    """Logits of the positions from ``start`` on, (n, vocabulary), float32."""

    start: int
    logits: Tensor


def logits_in_parts(model: Any, output: Any, hidden: Tensor, at_once: int = LOGITS_AT_ONCE) -> Iterator[LogitsPart]:
    """The logits of positions whose hidden states are there, so many elements at once.

    Args:
        model: a causal language model of transformers (also wrapped by PEFT).
        output: of its backbone.
        hidden: last hidden states at the positions, (N, hidden size).
        at_once: elements of the logits in memory at once.
    """
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    step = max(1, at_once // bare.get_output_embeddings().weight.shape[0])
    for start in range(0, len(hidden), step):
        yield LogitsPart(start, _logits(bare, output, hidden[None, start : start + step]))


def _logits(bare: Any, output: Any, hidden: Tensor) -> Tensor:
    """Logits (n, vocabulary) of hidden states (1, n, hidden size), in float32."""
    body = backbone(bare)
    name = next(name for name, child in bare.named_children() if child is body)
    setattr(bare, name, _Finished(output, hidden))
    try:
        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        logits: Tensor = bare(input_ids=ids, use_cache=False).logits
    finally:
        setattr(bare, name, body)
    return logits[0].float()


@torch.no_grad()
def answer_logps(
    model: Any, rows: Sequence[PromptAndAnswer], pad_id: int, at_once: int = LOGITS_AT_ONCE
) -> list[list[float]]:
    """Log-probabilities (nats) of each answer token given the prompt and the tokens before it, by one forward pass.

    Args:
        model: a causal language model of transformers.
        rows: (prompt ids, answer ids).
        pad_id: id that fills the batch up.
        at_once: elements of the logits in memory at once.
    """
    ids, mask = left_pad([[*prompt, *answer] for prompt, answer in rows], pad_id, model.device)
    output = backbone(model)(input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False)
    lengths = [len(answer) for _, answer in rows]
    hidden = output.last_hidden_state
    scored = torch.cat([hidden[row, -n - 1 : -1] for row, n in enumerate(lengths)])
    targets = torch.cat([ids[row, ids.shape[1] - n :] for row, n in enumerate(lengths)])
    logps: list[float] = []
    for start, logits in logits_in_parts(model, output, scored, at_once):
        own = targets[start : start + len(logits), None]
        logps += logits.log_softmax(-1).gather(-1, own)[:, 0].tolist()
        del logits  # before the next part is there
    split = iter(logps)
    return [[next(split) for _ in range(n)] for n in lengths]
