"""Whether sampling and a plain forward pass of a model agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def check_sampler(model: Any, tokenizer: Any, eos_ids: Sequence[int]) -> None:
    """Raise an error if the sampler's log-probabilities are not those of a plain forward pass.

    Args:
        model: the start policy.
        tokenizer: its tokenizer.
        eos_ids: ids that end an answer.
    """
