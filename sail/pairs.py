"""Pairs of responses as the trainer holds them between the data loader and the loss. All token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sail.routes import CURRENT, PP, PR


class TokenisedPair(NamedTuple):
    """A prompt with two responses, as token ids; ``example`` is its id in the data set."""

    example: int
    prompt: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]


Preference = Callable[[Sequence[TokenisedPair]], Sequence[float]]
"""Labels sampled pairs: the probability that the first response is preferred, for each pair; 0.5 is a tie."""


@dataclass(frozen=True)
class StepPair:
    """One pair of an optimiser step. Log-probabilities are sums over a response's tokens, in nats.

    Attributes:
        example: id in the data set.
        prompt: token ids.
        first: token ids of the first response.
        second: token ids of the second response.
        route: where responses and label come from (:mod:`sail.routes`).
        label_draw: the uniform that settles the label, where it is drawn.
        label: probability that ``first`` is preferred.
        ref_logps: both responses under the reference policy; None until computed, and where nothing reads them.
        logps: both responses under the model that sampled them; None for responses of the data set.
        source: which model samples the responses of an online pair.
        baseline: b of the label term.
        response_baselines: b of each response's score term; they differ from ``baseline`` with K > 2 samples.
        kl_baselines: baseline of the reverse-KL penalty, for each response.
        u_baselines: baseline of the penalty on ``|u|``, for each response.
        samples: which of the K responses to the prompt the two are.
        weight: share in the loss of the step; the weights of all ranks sum to the number of processes.
        columns: the data set's row without its token ids, for functions of texts; empty if none labels.
    """

    example: int
    prompt: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    route: int
    label_draw: float
    label: float = 1.0
    ref_logps: tuple[float, float] | None = None
    logps: tuple[float, float] | None = None
    source: int = CURRENT
    baseline: float = 0.0
    response_baselines: tuple[float, float] = (0.0, 0.0)
    kl_baselines: tuple[float, float] = (0.0, 0.0)
    u_baselines: tuple[float, float] = (0.0, 0.0)
    samples: tuple[int, int] = (0, 1)
    weight: float = 1.0
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def online(self) -> bool:
        """Whether the responses are sampled during training."""
        return self.route in (PP, PR)

    @property
    def on_policy(self) -> bool:
        """Whether they are sampled from the current policy: only then is there a score term."""
        return self.online and self.source == CURRENT

    @property
    def tokens(self) -> TokenisedPair:
        """The token ids alone."""
        return TokenisedPair(self.example, self.prompt, self.first, self.second)

    @property
    def references(self) -> tuple[float, float]:
        """``ref_logps``; zeros where nothing reads them."""
        return self.ref_logps or (0.0, 0.0)

    @property
    def log_ratios(self) -> tuple[float, float]:
        """``log pi / ref`` of the two sampled responses (nats)."""
        assert self.logps is not None
        return (self.logps[0] - self.references[0], self.logps[1] - self.references[1])


Labeller = Callable[[Sequence[StepPair]], Sequence[float | None]]
"""As :data:`Preference`, for whatever labels the pairs of the PR route; None for a pair that cannot be labelled."""
