"""Scoring given texts with the lower blocks that policies share, beside whole forward passes.

``python -m tests.speed.lower_blocks [MODEL] [REPEATS]``: processor seconds by turns, on one thread. *first* computes
and keeps, *later* reads. All blocks but the top 8 are shared.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.answer.load import load_model, load_tokenizer
from harness.answer.lower_blocks import LowerBlocks
from harness.answer.policy import Policy
from harness.answer.start_policy import build_start
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.store.stages import Store
from harness.store.tensor_cache import TensorCache
from tests.speed.measure import by_turns
from tests.speed.workbench import ADAPTED_LAYERS, random_ids

Ask = Callable[[Policy], Any]

LETTERS = [330, 350, 370, 390]


def texts(vocabulary: int) -> dict[str, Ask]:
    """What a policy is asked, by name: 60 pairs of 50 + 40 tokens, 24 questions with examples, 32 without."""

    def ids(count: int, *key: int | str) -> tuple[int, ...]:
        return tuple(random_ids(vocabulary, count, *key))

    pairs = [(ids(50, i), ids(40, i, side)) for i in range(60) for side in ("chosen", "rejected")]
    examples = ids(400, "examples")
    questions = [(examples + ids(90, i, "question"), (letter,)) for i in range(24) for letter in LETTERS]
    contexts = [ids(90, i, "context") for i in range(32)]
    return {
        "pairs": lambda policy: policy.summed_logps(pairs),
        "questions, 5 examples": lambda policy: policy.summed_logps(questions),
        "questions, next token": lambda policy: policy.next_token_logps(contexts, LETTERS),
    }


def main(model: str = "smollm2", repeats: str = "3") -> None:
    """Measure and print. The parameters are the command's."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = build_start(model, Store(folder / "store"))
        policy, tokenizer, meter = load_model(start), load_tokenizer(start), Meter(Ledger())
        lower = list(policy.model.layers[:-ADAPTED_LAYERS])

        def side(ask: Ask, kept: Callable[[int], str] | None) -> Callable[[int], float]:
            def seconds(place: int) -> float:
                shared = None
                if kept is not None:
                    cache = TensorCache(folder / kept(place))
                    shared = LowerBlocks(policy, lower, "start", cache, lambda saved: None)
                asked = Policy(policy, tokenizer, "p", meter=meter, cache=None, lower=shared)
                began = time.process_time()
                ask(asked)
                return time.process_time() - began

            return seconds

        for kind, ask in texts(len(tokenizer) - 10).items():
            plain = side(ask, None)
            first = by_turns(f"{kind}, first", "seconds", side(ask, "{}".format), plain, int(repeats))
            later = by_turns(f"{kind}, later", "seconds", side(ask, lambda place: "0"), plain, int(repeats))
            for line in (first, later):
                print(json.dumps({"name": line.name, "ratio": line.ratio, "low": line.low, "high": line.high}))


if __name__ == "__main__":
    main(*sys.argv[1:])
