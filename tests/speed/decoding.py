"""Decoding with room in the cache against transformers' ``DynamicCache``, side by side.

Run: ``python -m tests.speed.decoding [MODEL] [ROWS] [CONTEXT] [TOKENS]`` (default ``smollm2 64 1500 16``).

One JSON line: median seconds a token of both, their ratio, and the greatest difference of a logit. The cache that both
start from is random numbers, so that no prompt has to be read; the two sides take turns, token by token.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from harness.answer.load import load_model
from harness.answer.start_policy import build_start
from harness.store.stages import Store
from sail.kvcache import with_room


def random_cache(model: Any, rows: int, context: int) -> DynamicCache:
    """A cache of one context, the same for every call: standard normal keys and values.

    Args:
        model: whose configuration gives the sizes.
        rows: sequences.
        context: positions of each.
    """
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (rows, config.num_key_value_heads, context, width)
    cache, drawn = DynamicCache(), torch.Generator().manual_seed(0)
    for layer in range(config.num_hidden_layers):
        keys, values = (torch.randn(shape, generator=drawn).to(model.dtype) for _ in range(2))
        cache.update(keys, values, layer)
    return cache


class Step(NamedTuple):
    """Next logits (B, V) and the seconds that they took."""

    logits: Tensor
    seconds: float


@torch.no_grad()
def step(model: Any, cache: Any, tokens: Tensor, mask: Tensor) -> Step:
    """One decoding step.

    Args:
        model: a causal language model.
        cache: key-value cache, appended to.
        tokens: (B, 1).
        mask: attention mask up to and with the new token, (B, L).
    """
    started = time.perf_counter()
    logits = model(input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True).logits[:, -1]
    return Step(logits, time.perf_counter() - started)


def measure(model: Any, rows: int, context: int, steps: int) -> dict[str, float]:
    """Both sides over the same tokens.

    Args:
        model: a causal language model.
        rows: sequences.
        context: positions in the cache at the beginning.
        steps: tokens to decode; the first is not timed.

    Returns:
        the JSON line.
    """
    sides = {"plain": random_cache(model, rows, context), "room": with_room(random_cache(model, rows, context))}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    mask = torch.ones(rows, context, dtype=torch.long)
    mask[: rows // 2, : context // 8] = 0
    tokens, apart = torch.arange(rows)[:, None] + 5, 0.0
    for _ in range(steps):
        mask = torch.cat([mask, mask.new_ones(rows, 1)], 1)
        logits = {}
        for name, cache in sides.items():
            logits[name], seconds = step(model, cache, tokens, mask)
            spent[name].append(seconds)
        apart = max(apart, (logits["plain"] - logits["room"]).abs().max().item())
        tokens = logits["plain"].argmax(-1, keepdim=True)
    plain, room = (median(spent[name][1:]) for name in ("plain", "room"))
    return {"plain": round(plain, 4), "room": round(room, 4), "ratio": round(plain / room, 2), "difference": apart}


def main(model: str = "smollm2", rows: str = "64", context: str = "1500", steps: str = "16") -> None:
    """Measure and print. The parameters are the command's."""
    with tempfile.TemporaryDirectory() as folder:
        policy = load_model(build_start(model, Store(Path(folder)))).eval()
        print(
            json.dumps(
                {"model": model, "rows": int(rows), "context": int(context), "tokens": int(steps)}
                | measure(policy, int(rows), int(context), int(steps))
            )
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
