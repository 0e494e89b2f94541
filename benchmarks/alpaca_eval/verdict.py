"""AlpacaEval 2's verdicts and raw metrics (arXiv 2404.04475): order of the answers, preference, win rate. Pure."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.answer.reply import Reply
from harness.answer.verdict import (
    CUT,
    EMPTY_REPLY,
    NO_LABEL,
    NO_LOGPROBS,
    REFUSED_REPLY,
    UNANSWERED,
    Verdict,
    final_text,
    read_labels,
)
from harness.score.validity import NOT_A_NUMBER, NOT_FINITE, Invalid, value_or_reason

BASELINE_WINS, DRAW, MODEL_WINS = 1.0, 1.5, 2.0
NEITHER = "neither m nor M"

VerdictSource = Literal["logprobs", "text"]

_MARKED = re.compile(r"\[\[\s*([mM])\s*\]\]")
_DECORATION = re.compile(r"[\s*_`\"'().,:;!=#\[\]{}]+")
_BARE = re.compile(r"(?:(?i:the|my|best|final|model|identifier|answer|output|verdict|choice|is) )*([mM])")


def is_switched(instruction: str, seed: int = 0) -> bool:
    """Whether the judge sees the model's answer first. It depends on the instruction alone: the same for all models."""
    return random.Random(f"is_switched_outputs{instruction}{seed}").choices([False, True], k=1)[0]


def preference_from_logprobs(top_logprobs: Mapping[str, float], switched: bool) -> float | None:
    """The judge's preference: 1 the baseline, 2 the model; None if it gives neither ``m`` (shown first) nor ``M`` a
    probability.

    Args:
        top_logprobs: log-probability (nats) of each first token that the judge's endpoint returned.
        switched: whether the model's answer was shown first.
    """
    first, second = (top_logprobs.get(token, -math.inf) for token in ("m", "M"))
    highest = max(first, second)
    if math.isnan(first + second) or not math.isfinite(highest):
        return None
    first, second = math.exp(first - highest), math.exp(second - highest)
    preference = MODEL_WINS - first / (first + second)
    return 3 - preference if switched else preference


def read_preference(reply: Reply, switched: bool, source: VerdictSource) -> Verdict[float]:
    """The preference, in [1, 2], that a judge's reply holds, or the reason why it holds none.

    Args:
        reply: of the judge.
        switched: whether the model's answer was shown first.
        source: ``logprobs``: of the first token, the official rule. ``text``: a reply that is nothing but ``m`` or
            ``M`` after its thinking (or holds one of them as ``[[m]]``).
    """
    if source == "text":
        label, reason = read_labels(reply, identifier_labels)
        if label is None:
            return Verdict(None, NEITHER if reason == NO_LABEL else reason)
        return Verdict(preference_from_logprobs({label: 0.0}, switched))
    reason = final_text(reply).reason
    if reason in (REFUSED_REPLY, UNANSWERED):
        return Verdict(None, reason)
    if not reply.top_logprobs:
        return Verdict(None, reason if reason in (EMPTY_REPLY, CUT) else NO_LOGPROBS)
    preference = preference_from_logprobs(reply.top_logprobs, switched)
    if preference is not None:
        return Verdict(preference)
    bad = any(math.isnan(v) or v == math.inf for k in ("m", "M") if (v := reply.top_logprobs.get(k)) is not None)
    return Verdict(None, NOT_FINITE if bad else NEITHER)


def identifier_labels(text: str) -> list[str]:
    """The marked identifiers ``m`` and ``M`` of a text (``[[m]]``); else the one that the text consists of. The two
    differ in case alone, so an identifier somewhere in a sentence is no verdict."""
    marked = _MARKED.findall(text)
    if marked:
        return list(marked)
    bare = _BARE.fullmatch(" ".join(_DECORATION.sub(" ", text).split()))
    return [bare[1]] if bare else []


def stored_preference(value: Any) -> Verdict[float]:
    """A preference as a file holds it, or why it is none: a number from 1 to 2. Files of an older format store a draw
    as 0."""
    if isinstance(value, bool):
        return Verdict(None, NOT_A_NUMBER)
    if isinstance(value, int | float) and value == 0:
        return Verdict(DRAW)
    number = value_or_reason(value, (BASELINE_WINS, MODEL_WINS))
    return Verdict(None, number.reason) if isinstance(number, Invalid) else Verdict(float(number))


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
