"""Preference pairs: sampled from the start policy, labelled by the oracle, stored as token ids.

Every method trains on exactly these ids; nothing is decoded and tokenised again. The sampling log-probabilities are
the reference log-probabilities, since the start policy is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.answer.chat import Prompt, render
from harness.answer.policy import Policy
from harness.oracles.metered import MeteredOracle
from harness.recipe.recipe import DataSpec
from sail.types import Completion, Request


def best_and_worst(scores: Sequence[float]) -> tuple[int, int] | None:
    """Indices of the highest and the lowest score, the first of equals; None if all are equal."""
    best = max(range(len(scores)), key=lambda i: (scores[i], -i))
    worst = min(range(len(scores)), key=lambda i: (scores[i], i))
    return None if scores[best] == scores[worst] else (best, worst)


def sample_pairs(
    policy: Policy,
    oracle: MeteredOracle,
    prompts: Sequence[Prompt],
    data: DataSpec,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Best-against-worst pairs of ``data.samples`` answers a prompt, and how many prompts gave none (all equal)."""
    encoded = [render(policy.tokenizer, [{"role": "user", "content": p["prompt"]}]) for p in prompts]
    requests = [
        Request(tuple(ids), data.max_new_tokens, 1.0, (data.seed, p["id"], "pairs", k))
        for p, ids in zip(prompts, encoded, strict=True)
        for k in range(data.samples)
    ]
    answers = policy.sample(requests, progress, priced=True)
    rows, ties = [], 0
    for index, prompt in enumerate(prompts):
        group = answers[index * data.samples : (index + 1) * data.samples]
        scores = oracle.rank(prompt, [policy.text(a) for a in group])
        picked = best_and_worst(scores)
        if picked is None:
            ties += 1
            continue
        rows.append(_row(prompt, encoded[index], group, scores, picked))
    return rows, ties


def _row(
    prompt: Prompt, ids: list[int], group: Sequence[Completion], scores: list[float], picked: tuple[int, int]
) -> dict[str, Any]:
    chosen, rejected = group[picked[0]], group[picked[1]]
    return {
        "id": prompt["id"],
        "prompt_ids": ids,
        "chosen_ids": list(chosen.ids),
        "rejected_ids": list(rejected.ids),
        "chosen_reward": scores[picked[0]],
        "rejected_reward": scores[picked[1]],
        "chosen_stopped": chosen.stopped,
        "rejected_stopped": rejected.stopped,
        "ref_chosen_logps": chosen.logp,
        "ref_rejected_logps": rejected.logp,
    }
