"""Which rows of the training and of the test file go to which part. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.errors import UserError
from harness.recipe.recipe import PairsSpec

PARTS = {"train": "train", "tune": "train", "eval": "test", "heldout": "test"}
"""The file that each part comes from."""

_KEYS = {"test": ("eval_prompts", "heldout_prompts"), "train": ("tune_prompts", "train_prompts")}


def divide_into_parts(train: Sequence[int], test: Sequence[int], data: PairsSpec) -> dict[str, list[int]]:
    """The places of the rows of the parts ``train``, ``tune``, ``eval`` and ``heldout`` in their files. Parts share no
    prompt within a file.

    Evaluation prompts are the first distinct ones of the test file; held-out pairs are the next rows with another
    prompt. Tuning prompts are the last distinct ones of the training file; training pairs are the first rows with
    another prompt.

    Args:
        train: a hash of the prompt of each usable row of the training file, without evaluation prompts.
        test: the same of the test file.
        data: how many of each part the recipe asks for.

    Raises:
        UserError: too few rows are left.
    """
    evaluation, heldout = _separate("test", test, range(len(test)), (data.eval_prompts, data.heldout_prompts))
    tuning, training = _separate("train", train, range(len(train) - 1, -1, -1), (data.tune_prompts, 0))
    training = training[::-1]
    if data.train_prompts > len(training):
        raise UserError(
            f"data.train_prompts asks for {data.train_prompts} pairs beside data.tune_prompts, {len(training)} are "
            "left after cleaning: lower one (train_prompts: 0 takes all)"
        )
    return {"train": training[: data.train_prompts or None], "tune": tuning, "eval": evaluation, "heldout": heldout}


class _Separated(NamedTuple):
    """Places of rows with distinct prompts, and of rows with other prompts."""

    distinct: list[int]
    others: list[int]


def _separate(file: str, prompts: Sequence[int], order: Iterable[int], counts: tuple[int, int]) -> _Separated:
    """The first rows with distinct prompts, and the first rows with other prompts: so many of each (of the latter 0 is
    all)."""
    (prompt_count, row_count), places = counts, list(order)
    distinct: dict[int, int] = {}
    for place in places:
        if len(distinct) < prompt_count:
            distinct.setdefault(prompts[place], place)
    others = [place for place in places if prompts[place] not in distinct]
    if len(distinct) < prompt_count or len(others) < max(1, row_count):
        prompt_key, row_key = _KEYS[file]
        available = len(set(prompts))
        cure = "lower one" if available > 1 else "two distinct prompts are needed, so name another file"
        raise UserError(
            f"data.{prompt_key} asks for {prompt_count} distinct prompts and data.{row_key} for {row_count or 'all'} "
            f"rows with others, {len(distinct)} and {len(others)} are left after cleaning (data.{file} has {available} "
            f"distinct prompts): {cure}"
        )
    return _Separated(list(distinct.values()), others[: row_count or None])
