"""The local judge's prompts and identity. Needs no torch, so that plans can name the judge."""

from __future__ import annotations

from typing import Any

from harness.answer.verdict import ASK_FOR_CHOICE
from harness.store.json_files import digest

COMPARE = (
    "You are given a request and two answers. Decide which answer is better.\n\n"
    "Request:\n{question}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\n"
    "Which answer follows the request better and is more helpful, A or B?"
)
RATE = (
    "You are given a request and an answer. Rate the answer from 1 (useless) to 9 (excellent).\n\n"
    "Request:\n{question}\n\n{reference}Answer:\n{answer}\n\nHow good is the answer, from 1 to 9?"
)
COMPARE_IN_LETTERS = f"{COMPARE}\n\n{ASK_FOR_CHOICE}"
REFERENCE = "A correct answer:\n{reference}\n\n"
SYSTEM = "You are a fair and careful judge."
COMPARE_OPENING, RATE_OPENING = "Answer", "Rating: "
SCALE = tuple(range(1, 10))
VERSION = 1


def identity(model: str) -> dict[str, Any]:
    """The local judge's identity, a JSON record: weights (a stage key), prompts, orders and how it answers."""
    prompts = [SYSTEM, COMPARE, RATE, REFERENCE, COMPARE_OPENING, RATE_OPENING, list(SCALE)]
    return {
        "kind": "local log-probability",
        "model": model,
        "prompts": digest(prompts),
        "orders": "both",
        "version": VERSION,
    }
