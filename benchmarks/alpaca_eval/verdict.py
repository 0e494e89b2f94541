"""AlpacaEval 2's verdicts and raw metrics (spec/evals 1 to 1.2): order of the answers, preference, win rate."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

DRAW = 1.5


def is_switched(instruction: str, seed: int = 0) -> bool:
    """Whether the judge sees the model's answer first. It depends on the instruction alone: the same for all models."""
    return random.Random(f"is_switched_outputs{instruction}{seed}").choices([False, True], k=1)[0]


def preference_from_logprobs(top_logprobs: Mapping[str, float], switched: bool) -> float | None:
    """The judge's preference: 1 the baseline, 2 the model; None if it names neither ``m`` (shown first) nor ``M``.

    Args:
        top_logprobs: log-probability (nats) of each first token that the judge's endpoint returned.
        switched: whether the model's answer was shown first.
    """
    first, second = (math.exp(top_logprobs[k]) if k in top_logprobs else 0.0 for k in ("m", "M"))
    if first + second == 0:
        return None
    preference = 2 - first / (first + second)
    return 3 - preference if switched else preference


def stored_preference(value: float | None) -> float | None:
    """A preference as a file holds it: files of an older format store a draw as 0; a missing one is None."""
    if value is None or math.isnan(value):
        return None
    return DRAW if value == 0 else value


@dataclass(frozen=True)
class WinRate:
    """Raw metrics: percent, and counts. ``standard_error`` is over instructions (ddof 1)."""

    win_rate: float
    standard_error: float
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    discrete_win_rate: float

    def as_json(self) -> dict[str, float]:
        """As a JSON object, under alpaca_eval's own names."""
        return asdict(self)


def win_rate(preferences: Sequence[float]) -> WinRate:
    """Raw and discrete win rate of valid preferences in [1, 2]."""
    n = len(preferences)
    if n == 0:
        nan = float("nan")
        return WinRate(nan, nan, 0, 0, 0, 0, nan)
    y = [p - 1 for p in preferences]
    mean = math.fsum(y) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in y) / (n - 1) / n) if n > 1 else float("nan")
    wins, losses = sum(bool(v > 0.5) for v in y), sum(bool(v < 0.5) for v in y)
    draws = n - wins - losses
    return WinRate(100 * mean, 100 * error, wins, losses, draws, n, 100 * (wins + draws / 2) / n)
