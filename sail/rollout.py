"""Online pairs: the responses to sample, the pairs that they make, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from sail.config import SAILConfig
from sail.noise import uniform
from sail.pairs import Labeller, StepPair
from sail.routes import PR, flipped, label_of
from sail.types import Completion, Request


def requests_for(pair: StepPair, step: int, args: SAILConfig) -> list[Request]:
    """The K samples of an online pair's prompt, from the whole distribution: top-k and top-p would bias the gradient.

    Args:
        pair: whose prompt is answered.
        step: number of finished optimiser steps, part of the noise's key.
        args: number of samples, their length and temperature.

    Raises:
        ValueError: ``max_length`` leaves no room for a response.
    """
    key = (args.key_seed, pair.example, step, "token")
    limit = response_limit(len(pair.prompt), args)
    return [Request(pair.prompt, limit, args.temperature, (*key, k)) for k in range(args.num_samples)]


def response_limit(prompt_length: int, args: SAILConfig) -> int:
    """Tokens that a response to a prompt may have: the collator would cut what is beyond ``max_length``.

    Raises:
        ValueError: there is no room for one.
    """
    if args.max_length is None:
        return int(args.max_new_tokens)
    room = min(args.max_new_tokens, args.max_length - prompt_length)
    if room < 1:
        raise ValueError(
            f"max_length={args.max_length} leaves no room for a response to a prompt of {prompt_length} "
            "tokens: raise it, or leave such prompts out"
        )
    return int(room)


def pairs_of_samples(pair: StepPair, answers: Sequence[Completion], step: int, seed: int) -> list[StepPair]:
    """A step's pair as the pairs of its K sampled responses. Together they weigh what it did.

    Args:
        pair: an online pair, before sampling.
        answers: the K responses to its prompt.
        step: number of finished optimiser steps.
        seed: of the keyed noise; with K > 2 each pair has label noise of its own.
    """
    both = list(combinations(range(len(answers)), 2))
    return [
        replace(
            pair,
            first=answers[i].ids,
            second=answers[j].ids,
            ref_logps=None,
            logps=(answers[i].logp, answers[j].logp),
            samples=(i, j),
            label_draw=pair.label_draw if len(both) == 1 else uniform((seed, pair.example, step, "label", i, j)),
            weight=pair.weight / len(both),
        )
        for i, j in both
    ]


def labelled_by(labeller: Labeller | None, pairs: Sequence[StepPair], step: int, args: SAILConfig) -> list[StepPair]:
    """The pairs with those of the PR route labelled, under the configured label noise.

    Where a pair cannot be labelled, all pairs of its prompt leave the step: they weigh nothing.

    Args:
        labeller: called once, with all PR pairs but those that weigh nothing; may be None if there are none.
        pairs: the sampled pairs of the step, those of one prompt side by side.
        step: number of finished optimiser steps.
        args: how a probability becomes a label, and the flip rate.
    """
    out = [replace(pair, columns={}) for pair in pairs]
    where = [i for i, pair in enumerate(pairs) if pair.route == PR and pair.weight > 0]
    if not where:
        return out
    assert labeller is not None
    labels, count = list(labeller([pairs[i] for i in where])), args.pairs_per_prompt
    left_out = {place // count for place, p in enumerate(labels) if p is None}
    for place, (i, p) in enumerate(zip(where, labels, strict=True)):
        if p is None or place // count in left_out:
            out[i] = replace(out[i], weight=0.0)
            continue
        label = label_of(p, out[i].label_draw, args.labels)
        noise = uniform((args.key_seed, out[i].example, step, "flip", place % count))
        out[i] = replace(out[i], label=flipped(label, noise, args.flip_rate))
    return out
