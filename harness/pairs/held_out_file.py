"""Dividing one file of pairs into a training and a test file, so that no prompt is in both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.pairs.pair_source import PairSource
from harness.pairs.usable import UsablePairs
from harness.recipe.recipe import PairsSpec
from harness.store.json_files import Row, json_text, text_hash

SHARE, MOST = 0.1, 500
"""Of the prompts, this share is held out, and no more than so many."""

PROMPT_KEYS = ("prompt", "input", "conversations", "instruction", "question")
"""Columns that hold a prompt, in the order in which they are looked for; without any, the whole row counts."""


class PairCounts(NamedTuple):
    """How many rows two files have, and how many distinct prompts."""

    train_rows: int
    train_prompts: int
    test_prompts: int


def count_pairs(train: PairSource, test: PairSource) -> PairCounts:
    """The counts of two sources, as :func:`divide_file` takes prompts.

    Raises:
        UserError: a source cannot be read.
    """
    rows, prompts = 0, set[int]()
    for row in _rows(train):
        rows += 1
        prompts.add(_prompt_hash(row))
    return PairCounts(rows, len(prompts), len({_prompt_hash(row) for row in _rows(test)}))


def divide_file(source: PairSource, folder: Path) -> PairCounts:
    """Write ``train.jsonl`` and ``test.jsonl`` into a folder.

    Which prompts are held out follows from a hash of each, so that the order of the rows does not matter.

    Args:
        source: a file or a folder of rows.
        folder: is made if it is not there.

    Raises:
        UserError: the source cannot be read, or has fewer than four distinct prompts.
    """
    prompts = sorted({_prompt_hash(row) for row in _rows(source)})
    if len(prompts) < 4:
        raise UserError(
            f"{source.name} has {len(prompts)} distinct prompt{'s' * (len(prompts) != 1)}, and four are needed to "
            "train and to evaluate: name a file with more pairs"
        )
    count = min(MOST, max(2, math.ceil(SHARE * len(prompts))))
    held_out, train_rows = set(prompts[:count]), 0
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f"{name}.jsonl.part" for name in ("train", "test")}
    with ExitStack() as opened:
        files = {name: opened.enter_context(path.open("w", encoding="utf-8")) for name, path in parts.items()}
        for row in _rows(source):
            name = "test" if _prompt_hash(row) in held_out else "train"
            files[name].write(json_text(row, default=str) + "\n")
            train_rows += name == "train"
    for part in parts.values():
        part.replace(part.with_suffix(""))
    return PairCounts(train_rows, len(prompts) - count, count)


def check_pairs(source: PairSource) -> None:
    """Read every row, before anything is made of a user's file.

    Raises:
        UserError: a row is no pair (file and line are named), or none is usable.
    """
    for _ in _usable(source):
        pass


def check_parts(source: PairSource, folder: Path) -> None:
    """Check that both parts of a file hold a pair.

    Args:
        source: the file.
        folder: where :func:`divide_file` put its parts.

    Raises:
        UserError: one of them does not.
    """
    for name, purpose in (("train", "to train on"), ("test", "held out for evaluation")):
        try:
            next(iter(_usable(PairSource(source.name, folder / f"{name}.jsonl"))))
        except UserError:
            raise UserError(
                f"{source.name}: no prompt {purpose} has a usable pair: name a file with more pairs, or those to "
                "evaluate on with --test"
            ) from None


def _usable(source: PairSource) -> UsablePairs:
    data = PairsSpec(task="preferences", train=source.name, test=source.name, tune_prompts=1, eval_prompts=1)
    return UsablePairs(source, data)


def _rows(source: PairSource) -> Iterator[Row]:
    return (located.row for located in source.rows())


def _prompt_hash(row: Row) -> int:
    key = next((key for key in PROMPT_KEYS if row.get(key)), None)
    return text_hash(json.dumps(row if key is None else row[key], sort_keys=True, default=str))
