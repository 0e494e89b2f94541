"""Preference pairs: sampled from the start policy, labelled by the oracle, stored as token ids.

Every method trains on exactly these ids; nothing is decoded and tokenised again. The sampling log-probabilities are
the reference log-probabilities, since the start policy is the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.answer.chat import Prompt, render
from harness.answer.policy import Policy
from harness.oracles.metered import MeteredOracle
from harness.recipe.recipe import DataSpec
from harness.store.json_files import Row
from sail.types import Completion, Request


class BestAndWorst(NamedTuple):
    """Indices into a list of scores."""

    best: int
    worst: int


def best_and_worst(scores: Sequence[float]) -> BestAndWorst | None:
    """Indices of the highest and the lowest score, the first of equals; None if all are equal. A score that is not
    finite is none."""
    valid = [i for i, score in enumerate(scores) if math.isfinite(score)]
    if not valid:
        return None
    best = max(valid, key=lambda i: (scores[i], -i))
    worst = min(valid, key=lambda i: (scores[i], i))
    return None if scores[best] == scores[worst] else BestAndWorst(best, worst)


class SampledPairs(NamedTuple):
    """Rows of stored pairs, and the number of prompts that gave none because all their answers score the same."""

    rows: list[Row]
    ties: int


def sample_pairs(
    policy: Policy,
    oracle: MeteredOracle,
    prompts: Sequence[Prompt],
    data: DataSpec,
    progress: Callable[[int], None] | None = None,
) -> SampledPairs:
    """One pair a prompt: the best of ``data.samples`` answers against the worst.

    Args:
        policy: the start policy; answers are sampled at temperature 1 and charged even if the cache holds them.
        oracle: scores the answers (a pairwise one compares all of them).
        prompts: rows with ``id`` and ``prompt``.
        data: number of answers, their length and the seed.
        progress: called with the number of new answers.
    """
    prompt_ids = [render(policy.tokenizer, [{"role": "user", "content": p["prompt"]}]) for p in prompts]
    requests = [
        Request(tuple(ids), data.max_new_tokens, 1.0, (data.seed, p["id"], "pairs", k))
        for p, ids in zip(prompts, prompt_ids, strict=True)
        for k in range(data.samples)
    ]
    answers = policy.sample(requests, progress, priced=True)
    rows, ties = [], 0
    for index, prompt in enumerate(prompts):
        candidates = answers[index * data.samples : (index + 1) * data.samples]
        scores = oracle.rank(prompt, [policy.text(answer) for answer in candidates])
        selected = best_and_worst(scores)
        if selected is None:
            ties += 1
            continue
        rows.append(_row(prompt, prompt_ids[index], candidates, scores, selected))
    return SampledPairs(rows, ties)


def _row(
    prompt: Prompt,
    prompt_ids: list[int],
    candidates: Sequence[Completion],
    scores: list[float],
    selected: BestAndWorst,
) -> Row:
    chosen, rejected = candidates[selected.best], candidates[selected.worst]
    return {
        "id": prompt["id"],
        "prompt_ids": prompt_ids,
        "chosen_ids": list(chosen.ids),
        "rejected_ids": list(rejected.ids),
        "chosen_reward": scores[selected.best],
        "rejected_reward": scores[selected.worst],
        "chosen_stopped": chosen.stopped,
        "rejected_stopped": rejected.stopped,
        "ref_chosen_logps": chosen.logp,
        "ref_rejected_logps": rejected.logp,
    }
