"""Who labels sampled pairs, and the check of what they return.

Three kinds can label: a function of token ids (``preference=function``), a function of texts
(``preference=TextPreference(function)``), and rewards of texts (``reward_funcs=...``). Each becomes a
:data:`~sail.pairs.Labeller`, so that the trainer never has to guess what a function reads.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from sail.pairs import Labeller, Preference, StepPair
from sail.rewards import Completions, ResponseRewards, RewardFunctions, listed

PairwiseText = Callable[[Sequence[Any], Sequence[str], Sequence[str]], Sequence[float]]
"""Labels pairs of texts: prompts, first responses, second responses to the probability that the first is preferred."""

SLACK = 1e-6


class TextPreference:
    """A pairwise function of texts, to be given as ``preference``.

    Args:
        function: called once a step as ``function(prompts, firsts, seconds)``. Prompts are those of the data set (text,
            or a conversation as a list of messages); both responses are texts, special tokens left out. It returns for
            each pair the probability that the first response is preferred, 0.5 for a tie.

    Raises:
        ValueError: it takes no such arguments.
    """

    def __init__(self, function: PairwiseText) -> None:
        if not takes(function, 3):
            raise ValueError(
                f"TextPreference({function!r}): give a function of prompts, first responses and second responses"
            )
        self.function = function


def takes(function: Any, count: int) -> bool:
    """Whether something can be called with ``count`` positional arguments, as far as its signature says."""
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have none
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def token_labeller(preference: Preference) -> Labeller:
    """Labels by a function of token ids."""
    name = _name("preference", preference)

    def label(pairs: Sequence[StepPair]) -> list[float | None]:
        return [*probabilities(preference([pair.tokens for pair in pairs]), pairs, name)]

    return label


def text_labeller(preference: TextPreference, tokenizer: Any) -> Labeller:
    """Labels by a pairwise function of texts; ``tokenizer`` decodes the responses."""
    name = _name("TextPreference", preference.function)

    def label(pairs: Sequence[StepPair]) -> list[float | None]:
        prompts = [pair.columns["prompt"] for pair in pairs]
        firsts, seconds = (
            tokenizer.batch_decode([list(ids) for ids in side], skip_special_tokens=True)
            for side in ([p.first for p in pairs], [p.second for p in pairs])
        )
        return [*probabilities(preference.function(prompts, firsts, seconds), pairs, name)]

    return label


def reward_labeller(
    functions: RewardFunctions, tokenizer: Any, kind: str, log: Callable[[ResponseRewards], None] = lambda rewards: None
) -> Labeller:
    """Labels by rewards: a response is scored once, in however many pairs it stands.

    Args:
        functions: that score a response.
        tokenizer: decodes the responses.
        kind: how rewards become a probability (:func:`preferred`).
        log: gets the rewards of each call.
    """

    def label(pairs: Sequence[StepPair]) -> list[float | None]:
        place: dict[tuple[int, int], int] = {}
        owners: list[StepPair] = []
        ids: list[tuple[int, ...]] = []
        for pair in pairs:
            for k, response in zip(pair.samples, (pair.first, pair.second), strict=True):
                if place.setdefault((pair.example, k), len(ids)) == len(ids):
                    owners.append(pair)
                    ids.append(response)
        rewards = functions(Completions.of(owners, ids, tokenizer))
        log(rewards)
        both = [[rewards.total[place[pair.example, k]] for k in pair.samples] for pair in pairs]
        return [preferred(first, second, kind) for first, second in both]

    return label


def preferred(first: float, second: float, kind: str) -> float | None:
    """The probability that the first response is preferred, of two rewards.

    Args:
        first: reward of the first response; NaN if nothing scored it.
        second: reward of the second.
        kind: ``hard`` goes by the sign of the difference, with 0.5 for a tie; ``soft`` and ``sampled`` take rewards as
            log-odds: the Bradley-Terry probability ``sigmoid(first - second)``.

    Returns:
        None if a response has no reward.
    """
    gap = first - second
    if math.isnan(gap):
        return None
    return 0.5 + 0.5 * ((gap > 0) - (gap < 0)) if kind == "hard" else 0.5 * (1 + math.tanh(gap / 2))


def probabilities(returned: Any, pairs: Sequence[StepPair], name: str) -> list[float]:
    """What a preference function returned, as probabilities.

    Args:
        returned: a list, an array or a tensor.
        pairs: that the function was called with.
        name: of the function, for messages.

    Raises:
        ValueError: not one value for each pair, or a value that is no probability.
    """
    values = listed(returned, len(pairs), name, "pair")
    return [
        _probability(value, place, pair, name) for place, (value, pair) in enumerate(zip(values, pairs, strict=True))
    ]


def _probability(value: Any, place: int, pair: StepPair, name: str) -> float:
    try:
        p = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError):
        p = math.nan
    if not -SLACK <= p <= 1 + SLACK:
        raise ValueError(
            f"{name} returned {value!r} for pair {place} (example {pair.example}): return the probability in [0, 1] "
            "that the first response is preferred, 0.5 for a tie"
        )
    return min(1.0, max(0.0, p))


def _name(role: str, function: Any) -> str:
    from trl.trainer.utils import get_callable_name

    return f"{role} ({get_callable_name(function)})"
