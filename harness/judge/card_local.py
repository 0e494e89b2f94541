"""Asking the local judge about pairs with known preferences, in both orders, for its card."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.answer.load import load_model, load_tokenizer, saved_eos_ids
from harness.answer.policy import Policy
from harness.answer.start_policy import build_start, start_stage
from harness.answer.template_check import check_template
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.judge.card_answers import CardAnswers, answer_columns
from harness.judge.card_pairs import LabelledPair
from harness.judge.local import LocalJudge
from harness.store.row_cache import RowCache
from harness.store.stages import Store

CHUNK = 4  # pairs a call
TOO_LONG = "longer than the context"


def ask_local(
    model: str, root: Path, pairs: Sequence[LabelledPair], progress: Callable[[int], None] = lambda done: None
) -> CardAnswers:
    """Both orders of each pair by log-probability; pairs beyond the model's context are unreadable.

    Args:
        model: the start policy's name in recipes, or a model directory.
        root: the store, where each answer is kept as it comes.
        pairs: to ask about.
        progress: gets the number of pairs done.

    Raises:
        UserError: no such model, or no pair fits its context.
    """
    policy = _start_policy(model, Store(root))
    ledger = policy.meter.ledger
    judge = LocalJudge(policy, 2 * CHUNK)
    sizes = [judge.tokens(pair) for pair in pairs]
    room = getattr(policy.model.config, "max_position_embeddings", None) or math.inf
    order = sorted((i for i, size in enumerate(sizes) if size < room), key=lambda i: sizes[i])
    verdicts: dict[int, dict[str, float]] = {}
    seconds, timed_calls = 0.0, 0
    for at in range(0, len(order), CHUNK):
        part = order[at : at + CHUNK]
        tokens_before, began = ledger.get("judge", "tokens"), time.perf_counter()
        verdicts |= dict(zip(part, judge.compare([pairs[i] for i in part]), strict=True))
        if ledger.get("judge", "tokens") > tokens_before:  # not all from the cache
            seconds, timed_calls = seconds + time.perf_counter() - began, timed_calls + 2 * len(part)
        progress(len(verdicts))
    if not verdicts:
        raise UserError(f"No pair fits the context of the model ({room} tokens): bring shorter pairs with --pairs")
    by_pair = [verdicts.get(i) for i in range(len(pairs))]
    items = answer_columns(
        pairs,
        [round(v["first"] + v["shown_first"] - 0.5, 6) if v else None for v in by_pair],
        [round(v["shown_first"] - v["first"] + 0.5, 6) if v else None for v in by_pair],
        [None] * len(pairs),
        [round(v["mass"], 6) if v else None for v in by_pair],
    )
    too_long = 2 * (len(pairs) - len(order))
    usage = {
        "calls": 2 * len(pairs),
        "unanswered": 0,
        "unreadable": too_long,
        "no_verdict": {TOO_LONG: too_long} if too_long else {},
        "from_logprobs": 2 * len(order),
        "answered_by": [],
        "tokens_in": 2 * sum(sizes[i] for i in order),
        "tokens_out": 0,
        "cost": 0.0,
        "timed": timed_calls,
        "seconds": round(seconds, 3) if timed_calls else None,
        "cores": os.cpu_count(),
    }
    return CardAnswers(items, usage)


def _start_policy(model: str, store: Store) -> Policy:
    """The start policy, built if it is not in the store, with a ledger of its own."""
    folder = build_start(model, store)
    with store.in_use():
        tokenizer = load_tokenizer(folder)
        check_template(tokenizer, saved_eos_ids(folder, tokenizer))
        cache = RowCache(store.root / "rows.sqlite")
        return Policy(load_model(folder), tokenizer, start_stage(model).key, meter=Meter(Ledger()), cache=cache)
