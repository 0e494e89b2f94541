"""Asking a judge behind an endpoint about pairs with known preferences, in both orders, for its card."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from harness.answer.client import Client
from harness.answer.reply import Call, Reply
from harness.errors import UserError
from harness.judge.card_answers import CardAnswers, answer_columns
from harness.judge.card_figures import repeated_order
from harness.judge.card_pairs import LabelledPair
from harness.judge.prompts import COMPARE_IN_LETTERS, SYSTEM
from harness.store.json_files import digest

VERSION = 1

ARTICLE = re.compile(r"(^|[.!?]\s+)A (?=[a-z])(?!(?:is|and|or)\b)")


@dataclass(frozen=True)
class AskSettings:
    """How a judge behind an endpoint is asked. ``verdict``: from the first token's log-probabilities where the endpoint
    gives them, or from the text alone (``text``: they are not asked for)."""

    temperature: float = 0.0
    max_tokens: int = 16
    verdict: Literal["logprobs", "text"] = "logprobs"

    def protocol(self) -> dict[str, Any]:
        """Everything beside judge and pairs that can change a verdict."""
        return {"question": digest([SYSTEM, COMPARE_IN_LETTERS]), "orders": "both", "version": VERSION} | asdict(self)


class SlotReading(NamedTuple):
    """``first``: probability of slot A; None where a reply names none. ``mass``: probability of answering A or B at
    all, if it was read from log-probabilities."""

    first: float | None
    mass: float | None


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
    priced = client.endpoint.price_in or client.endpoint.price_out
    usage = {
        "calls": len(calls),
        "unanswered": len(replies) - len(answered),
        "unreadable": sum(r.first is None for r in readings) - (len(replies) - len(answered)),
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
    """Raise where no call was answered, or no answer names a slot."""
    answered = [r for r in replies if r.answered]
    if not answered:
        raise UserError(f"The judge {client.endpoint.model!r} does not answer ({replies[0].error}): try again later")
    if all(r.first is None for r in readings):
        first = " ".join((answered[0].text or "").split())[:80]
        raise UserError(
            f"No answer of {client.endpoint.model!r} names A or B (the first: {first!r}): raise --max-tokens if "
            "they are cut"
        )


def _calls(i: int, pair: LabelledPair, settings: AskSettings) -> list[Call]:
    def call(first: str, second: str, sample: int = 0) -> Call:
        text = COMPARE_IN_LETTERS.format(question=pair.prompt, first=first, second=second)
        top = 5 if settings.verdict == "logprobs" else 0
        return Call((("system", SYSTEM), ("user", text)), settings.temperature, settings.max_tokens, top, sample=sample)

    orders = {"forward": (pair.chosen, pair.rejected), "backward": (pair.rejected, pair.chosen)}
    return [call(*orders["forward"]), call(*orders["backward"]), call(*orders[repeated_order(i)], sample=1)]


def read_reply(reply: Reply) -> SlotReading:
    """The verdict of a reply: from its log-probabilities where A and B together are likelier than everything else, else
    from its text."""
    if reply.top_logprobs:
        a, b = (sum(math.exp(v) for t, v in reply.top_logprobs.items() if t.strip(" *[(\"'") == x) for x in "AB")
        if a + b > 0.5:
            return SlotReading(round(a / (a + b), 6), round(min(1.0, a + b), 6))
    return SlotReading(slot_in_text(reply.text or ""), None)


def slot_in_text(text: str) -> float | None:
    """1 for A, 0 for B, 0.5 for a tie; None unless a reply names exactly one of them. The article that opens a sentence
    is no A."""
    stripped = text.strip(" \n.*[]()\"'").lower()
    if stripped in ("a", "b"):
        return float(stripped == "a")
    letters = set(re.findall(r"(?<![\w'])[AB](?![\w'])", ARTICLE.sub(r"\1", text.strip())))
    if len(letters) == 1:
        return float(letters == {"A"})
    return 0.5 if not letters and re.search(r"\btie\b", text, re.IGNORECASE) else None
