"""Asking a judge about pairs with known preferences, in both orders; what it cost."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.answer.client import Client
from harness.answer.reply import Call, Reply
from harness.errors import UserError
from harness.judge.card_figures import repeated
from harness.judge.card_pairs import Pair
from harness.judge.prompts import COMPARE_IN_LETTERS, SYSTEM
from harness.score.results import Columns
from harness.store.json_files import digest
from harness.store.stages import Store

Progress = Callable[[int], None]

VERSION = 1

ARTICLE = re.compile(r"(^|[.!?]\s+)A (?=[a-z])(?!(?:is|and|or)\b)")

CHUNK = 4  # pairs that the local judge is asked at once


@dataclass(frozen=True)
class Asking:
    """How a judge behind an endpoint is asked. ``verdict``: from the first token's log-probabilities where the endpoint
    gives them, or from the text alone (``text``: they are not asked for)."""

    temperature: float = 0.0
    max_tokens: int = 16
    verdict: Literal["logprobs", "text"] = "logprobs"

    def protocol(self) -> dict[str, Any]:
        """Everything beside judge and pairs that can change a verdict."""
        return {"question": digest([SYSTEM, COMPARE_IN_LETTERS]), "orders": "both", "version": VERSION} | asdict(self)


@dataclass(frozen=True)
class Trial:
    """What came back: columns of :func:`harness.judge.card_figures.figures`, calls, tokens, cost and seconds."""

    items: Columns
    usage: dict[str, Any]


def ask_endpoint(client: Client, pairs: Sequence[Pair], how: Asking, progress: Progress = lambda done: None) -> Trial:
    """Three calls a pair: both orders, and one of them again.

    Raises:
        UserError: the endpoint refuses, a cap is reached, or no answer at all can be read.
    """
    calls = [call for i, pair in enumerate(pairs) for call in _calls(i, pair, how)]
    before = client.tally.requests - client.tally.faults.total()
    began = time.perf_counter()
    replies = client.ask(calls, progress)
    seconds = time.perf_counter() - began
    paid = client.tally.requests - client.tally.faults.total() - before
    said = [read(reply) for reply in replies]
    answered = [r for r in replies if r.answered]
    if not answered:
        raise UserError(f"The judge {client.endpoint.model!r} does not answer ({replies[0].error}): try again later")
    if all(p is None for p, _ in said):
        first = " ".join((answered[0].text or "").split())[:80]
        raise UserError(
            f"No answer of {client.endpoint.model!r} names A or B (the first: {first!r}): raise --max-tokens if "
            "they are cut"
        )
    masses = [[m for _, m in said[3 * i : 3 * i + 2] if m is not None] for i in range(len(pairs))]
    items = _items(
        pairs,
        [p for p, _ in said[0::3]],
        [p for p, _ in said[1::3]],
        [p for p, _ in said[2::3]],
        [sum(m) / 2 if len(m) == 2 else None for m in masses],
    )
    priced = client.endpoint.price_in or client.endpoint.price_out
    usage = {
        "calls": len(calls),
        "unanswered": len(replies) - len(answered),
        "unreadable": sum(p is None for p, _ in said) - (len(replies) - len(answered)),
        "from_logprobs": sum(m is not None for _, m in said),
        "answered_by": sorted({r.model for r in answered if r.model}),
        "tokens_in": sum(r.tokens_in for r in answered),
        "tokens_out": sum(r.tokens_out for r in answered),
        "cost": round(sum(map(client.cost, answered)), 6) if priced else None,
        "timed": paid,
        "seconds": round(seconds, 3) if paid else None,
        "cores": None,
    }
    return Trial(items, usage)


def _calls(i: int, pair: Pair, how: Asking) -> list[Call]:
    def call(first: str, second: str, sample: int = 0) -> Call:
        text = COMPARE_IN_LETTERS.format(question=pair.prompt, first=first, second=second)
        top = 5 if how.verdict == "logprobs" else 0
        return Call((("system", SYSTEM), ("user", text)), how.temperature, how.max_tokens, top, sample=sample)

    orders = {"forward": (pair.chosen, pair.rejected), "backward": (pair.rejected, pair.chosen)}
    return [call(*orders["forward"]), call(*orders["backward"]), call(*orders[repeated(i)], sample=1)]


def read(reply: Reply) -> tuple[float | None, float | None]:
    """Probability of slot A (None: it names none), and the mass on A and B if it was read from log-probabilities: they
    count where A and B together are likelier than everything else."""
    if reply.top_logprobs:
        a, b = (sum(math.exp(v) for t, v in reply.top_logprobs.items() if t.strip(" *[(\"'") == x) for x in "AB")
        if a + b > 0.5:
            return round(a / (a + b), 6), round(min(1.0, a + b), 6)
    return letter(reply.text or ""), None


def letter(text: str) -> float | None:
    """1 for A, 0 for B, 0.5 for a tie; None unless a reply names exactly one of them. The article that opens a sentence
    is no A."""
    alone = text.strip(" \n.*[]()\"'").lower()
    if alone in ("a", "b"):
        return float(alone == "a")
    named = set(re.findall(r"(?<![\w'])[AB](?![\w'])", ARTICLE.sub(r"\1", text.strip())))
    if len(named) == 1:
        return float(named == {"A"})
    return 0.5 if not named and re.search(r"\btie\b", text, re.IGNORECASE) else None


def ask_local(model: str, root: Path, pairs: Sequence[Pair], progress: Progress = lambda done: None) -> Trial:
    """Both orders of each pair by log-probability; answers are kept in the store as they come. Pairs beyond the model's
    context are unreadable."""
    from harness.answer.load import load_model, load_tokenizer, saved_eos_ids
    from harness.answer.policy import Policy
    from harness.answer.start_policy import build_start, start_stage
    from harness.answer.template_check import check_template
    from harness.budget.ledger import Ledger
    from harness.budget.meter import Meter
    from harness.judge.local import LocalJudge
    from harness.store.row_cache import RowCache

    store = Store(root)
    folder = build_start(model, store)
    tokenizer = load_tokenizer(folder)
    check_template(tokenizer, saved_eos_ids(folder, tokenizer))
    ledger = Ledger()
    policy = Policy(
        load_model(folder),
        tokenizer,
        start_stage(model).key,
        meter=Meter(ledger),
        cache=RowCache(store.root / "rows.sqlite"),
    )
    judge = LocalJudge(policy, 2 * CHUNK)
    sizes = [judge.tokens(pair) for pair in pairs]
    room = getattr(policy.model.config, "max_position_embeddings", None) or math.inf
    order = sorted((i for i, size in enumerate(sizes) if size < room), key=lambda i: sizes[i])
    verdicts: dict[int, dict[str, float]] = {}
    seconds, timed = 0.0, 0
    for at in range(0, len(order), CHUNK):
        part = order[at : at + CHUNK]
        seen, began = ledger.get("judge", "tokens"), time.perf_counter()
        verdicts |= dict(zip(part, judge.compare([pairs[i] for i in part]), strict=True))
        if ledger.get("judge", "tokens") > seen:  # not all from the cache
            seconds, timed = seconds + time.perf_counter() - began, timed + 2 * len(part)
        progress(len(verdicts))
    if not verdicts:
        raise UserError(f"No pair fits the context of the model ({room} tokens): bring shorter pairs with --pairs")
    found = [verdicts.get(i) for i in range(len(pairs))]
    items = _items(
        pairs,
        [v and round(v["first"] + v["shown_first"] - 0.5, 6) for v in found],
        [v and round(v["shown_first"] - v["first"] + 0.5, 6) for v in found],
        [None] * len(pairs),
        [v and round(v["mass"], 6) for v in found],
    )
    usage = {
        "calls": 2 * len(pairs),
        "unanswered": 0,
        "unreadable": 2 * (len(pairs) - len(order)),
        "from_logprobs": 2 * len(order),
        "answered_by": [],
        "tokens_in": 2 * sum(sizes[i] for i in order),
        "tokens_out": 0,
        "cost": 0.0,
        "timed": timed,
        "seconds": round(seconds, 3) if timed else None,
        "cores": os.cpu_count(),
    }
    return Trial(items, usage)


def _items(pairs: Sequence[Pair], forward: Any, backward: Any, again: Any, mass: Any) -> Columns:
    return {
        "id": list(range(len(pairs))),
        "forward": forward,
        "backward": backward,
        "again": again,
        "mass": mass,
        "length_chosen": [len(p.chosen) for p in pairs],
        "length_rejected": [len(p.rejected) for p in pairs],
    }
