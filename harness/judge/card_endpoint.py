"""Asking a judge behind an endpoint about pairs with known preferences, in both orders, for its card."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from harness.answer.choice_labels import bare_label
from harness.answer.client import Client
from harness.answer.reply import Call, Reply
from harness.answer.verdict import TOKENS_FOR_CHOICE, read_choice
from harness.errors import UserError
from harness.judge.card_answers import CardAnswers, answer_columns
from harness.judge.card_figures import repeated_order
from harness.judge.card_pairs import LabelledPair
from harness.judge.prompts import COMPARE_IN_LETTERS, SYSTEM
from harness.store.json_files import digest

VERSION = 2

SLOTS = {"A": 1.0, "B": 0.0}
"""Reading of a reply that names a slot."""


@dataclass(frozen=True)
class AskSettings:
    """How a judge behind an endpoint is asked. ``verdict``: with the first token's log-probabilities where the endpoint
    gives them and that token is the label, or by the text alone (``text``: they are not asked for)."""

    temperature: float = 0.0
    max_tokens: int = TOKENS_FOR_CHOICE
    verdict: Literal["logprobs", "text"] = "logprobs"

    def protocol(self) -> dict[str, Any]:
        """Everything beside judge and pairs that can change a verdict."""
        return {"question": digest([SYSTEM, COMPARE_IN_LETTERS]), "orders": "both", "version": VERSION} | asdict(self)


class SlotReading(NamedTuple):
    """What a reply says.

    Attributes:
        first: probability of slot A; None where there is no verdict.
        mass: probability of answering A or B at all, if it was read from log-probabilities.
        reason: why there is no verdict.
    """

    first: float | None
    mass: float | None = None
    reason: str = ""


def ask_endpoint(
    client: Client,
    pairs: Sequence[LabelledPair],
    settings: AskSettings,
    progress: Callable[[int], None] = lambda done: None,
) -> CardAnswers:
    """Three calls a pair: both orders, and one of them again.

    Args:
        client: of the judge's endpoint; it keeps the answers.
        pairs: to ask about.
        settings: how to ask.
        progress: gets the number of calls done.

    Raises:
        UserError: the endpoint refuses, a cap is reached, or no answer at all can be read.
    """
    calls = [call for i, pair in enumerate(pairs) for call in _calls(i, pair, settings)]
    before = client.tally.requests - client.tally.faults.total()
    began = time.perf_counter()
    replies = client.ask(calls, progress)
    seconds = time.perf_counter() - began
    paid = client.tally.requests - client.tally.faults.total() - before
    readings = [read_reply(reply) for reply in replies]
    _check_readable(client, replies, readings)
    masses = [[r.mass for r in readings[3 * i : 3 * i + 2] if r.mass is not None] for i in range(len(pairs))]
    items = answer_columns(
        pairs,
        [r.first for r in readings[0::3]],
        [r.first for r in readings[1::3]],
        [r.first for r in readings[2::3]],
        [sum(m) / 2 if len(m) == 2 else None for m in masses],
    )
    answered = [r for r in replies if r.answered]
    unanswered = sum(r.unanswered for r in replies)
    no_verdict = Counter(r.reason for r in readings if r.first is None)
    priced = client.endpoint.price_in or client.endpoint.price_out
    usage = {
        "calls": len(calls),
        "unanswered": unanswered,
        "unreadable": no_verdict.total() - unanswered,
        "no_verdict": dict(sorted(no_verdict.items())),
        "from_logprobs": sum(r.mass is not None for r in readings),
        "answered_by": sorted({r.model for r in answered if r.model}),
        "tokens_in": sum(r.tokens_in for r in answered),
        "tokens_out": sum(r.tokens_out for r in answered),
        "cost": round(sum(map(client.cost, answered)), 6) if priced else None,
        "timed": paid,
        "seconds": round(seconds, 3) if paid else None,
        "cores": None,
    }
    return CardAnswers(items, usage)


def _check_readable(client: Client, replies: Sequence[Reply], readings: Sequence[SlotReading]) -> None:
    """Raise where no call was answered, or no answer holds a verdict."""
    answered = [r for r in replies if r.answered]
    if not answered:
        raise UserError(f"The judge {client.endpoint.model!r} does not answer ({replies[0].error}): try again later")
    if all(r.first is None for r in readings):
        first = " ".join((answered[0].text or "").split())[:80]
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(r.reason for r in readings).most_common())
        raise UserError(
            f"No answer of {client.endpoint.model!r} holds a verdict such as [[A]] ({reasons}; the first: {first!r}): "
            "raise --max-tokens if they are cut"
        )


def _calls(i: int, pair: LabelledPair, settings: AskSettings) -> list[Call]:
    def call(first: str, second: str, sample: int = 0) -> Call:
        text = COMPARE_IN_LETTERS.format(question=pair.prompt, first=first, second=second)
        top = 5 if settings.verdict == "logprobs" else 0
        return Call((("system", SYSTEM), ("user", text)), settings.temperature, settings.max_tokens, top, sample=sample)

    orders = {"forward": (pair.chosen, pair.rejected), "backward": (pair.rejected, pair.chosen)}
    return [call(*orders["forward"]), call(*orders["backward"]), call(*orders[repeated_order(i)], sample=1)]


def read_reply(reply: Reply) -> SlotReading:
    """The verdict of a reply, which is that of its text (:func:`harness.answer.verdict.read_choice`).

    Where the text is nothing but the label A or B and the first token is that label, its log-probabilities say how sure
    the judge is, if A and B together are likelier than everything else.
    """
    value, reason = read_choice(reply)
    if value is None:
        return SlotReading(None, None, reason)
    if reply.top_logprobs and bare_label(reply.text or "") in SLOTS:
        a, b = (sum(math.exp(v) for t, v in reply.top_logprobs.items() if t.strip(" *[(\"'") == x) for x in SLOTS)
        if a + b > 0.5:
            return SlotReading(round(a / (a + b), 6), round(min(1.0, a + b), 6))
    return SlotReading(value)
