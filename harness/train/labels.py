"""The training oracle as the preference function of SAIL's trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.train.context import TrainContext

if TYPE_CHECKING:
    from sail.pairs import Preference, TokenisedPair


def preference(context: TrainContext) -> Preference:
    """A function that labels sampled pairs by the training oracle."""

    def prefer(pairs: Sequence[TokenisedPair]) -> list[float]:
        """Probability that the first response is preferred, for each pair."""
        rows = [context.prompts[context.pairs[p.example]["id"]] for p in pairs]
        firsts, seconds = [decode(context, p.first) for p in pairs], [decode(context, p.second) for p in pairs]
        return context.oracle.prefer(rows, firsts, seconds)

    return prefer


def decode(context: TrainContext, ids: Sequence[int]) -> str:
    """The text of a response, special tokens left out."""
    text: str = context.tokenizer.decode(list(ids), skip_special_tokens=True)
    return text.strip()
