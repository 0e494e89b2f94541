"""Families of prompts that share a prefix: what is computed once when completions are scored."""

from __future__ import annotations

import random

import pytest

from harness.answer.continuations import MIN_SAVED_TOKENS, Family, prompt_families
from sail.prefill import common_prefix

Ids = tuple[int, ...]


def saved(families: list[Family]) -> int:
    return sum(family.shared * (len(family.prompts) - 1) for family in families)


def by_halves(prompts: list[Ids]) -> int:
    """Tokens saved where neighbours are one family if they share half of the shorter one: another rule, to compare."""
    ordered, groups = sorted(set(prompts)), list[list[Ids]]()
    for before, prompt in zip([None, *ordered], ordered, strict=False):
        near = before is not None and 2 * common_prefix([before, prompt]) >= min(len(before), len(prompt))
        groups[-1].append(prompt) if near else groups.append([prompt])
    each = [common_prefix(group) * (len(group) - 1) for group in groups]
    return sum(tokens for tokens in each if tokens >= MIN_SAVED_TOKENS)


def tree(draw: random.Random, depth: int, before: Ids = ()) -> list[Ids]:
    """Prompts with prefixes in common on several levels."""
    before = (*before, *(draw.randrange(1000) for _ in range(draw.randint(1, 60))))
    if depth == 0:
        return [before]
    return [prompt for _ in range(draw.randint(1, 6)) for prompt in tree(draw, depth - 1, before)]


@pytest.mark.parametrize("seed", range(60))
def test_every_prompt_is_in_one_family_and_has_its_prefix(seed: int) -> None:
    draw = random.Random(seed)
    prompts = tree(draw, draw.randint(1, 4))
    families = prompt_families([*prompts, *prompts[:3]])
    assert sorted(p for family in families for p in family.prompts) == sorted(set(prompts))
    for family in families:
        assert len({prompt[: family.shared] for prompt in family.prompts}) == 1
        assert family.shared < min(map(len, family.prompts))
        assert [len(p) for p in family.prompts] == sorted(len(p) for p in family.prompts)
        assert family.shared == 0 or family.shared * (len(family.prompts) - 1) >= MIN_SAVED_TOKENS
    assert saved(families) >= by_halves(prompts)
    whole = common_prefix(prompts) * (len(set(prompts)) - 1) if len(set(prompts)) > 1 else 0
    assert saved(families) >= (whole if whole >= MIN_SAVED_TOKENS else 0)


def test_a_system_prompt_is_shared_although_it_is_less_than_half_of_each() -> None:
    prompts = [(*range(22), *(1000 * i + k for k in range(30))) for i in range(1, 41)]
    assert [(f.shared, len(f.prompts)) for f in prompt_families(prompts)] == [(22, 40)]


def test_examples_of_a_subject_are_shared_within_it_and_the_rest_shares_the_head() -> None:
    head = tuple(range(30))
    subjects = [tuple(1000 * s + k for k in range(400)) for s in range(1, 4)]
    asked = [(*head, *subject, 9000 + i) for subject in subjects for i in range(5)]
    alone = [(*head, 20_000 + i) for i in range(20)]
    families = sorted((f.shared, len(f.prompts)) for f in prompt_families([*asked, *alone]))
    assert families == [(30, 20), (430, 5), (430, 5), (430, 5)]


def test_a_chain_of_growing_conversations_ends() -> None:
    prompts = [tuple(range(n)) for n in range(1, 400)]
    families = prompt_families(prompts)
    assert sum(len(family.prompts) for family in families) == 399
    assert saved(families) >= 199 * 199  # the longer half shares the first 200 tokens
