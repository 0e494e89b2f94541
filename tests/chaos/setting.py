"""The small comparison that everything is done to, what it costs undisturbed, and whether another equals it."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.command import Command
from tests.chaos.judge import Judge
from tests.kit.command import write_tiny
from tests.kit.official_data import write_official_data, write_questions

DEADLINE_S = 120.0
"""Seconds after which a command hangs."""

CONCURRENCY = 2
"""Open requests of a command to the judge."""

QUESTIONS = 6
"""Of two turns each, which the judge is asked about."""

ARGUMENTS = ("compare", "chaos.yaml", "--data-dir", "official")

RECIPE: dict[str, Any] = {
    "data": {
        "train_prompts": 16, "tune_prompts": 4, "eval_prompts": 6, "heldout_prompts": 8, "samples": 3,
        "max_new_tokens": 8,
    },
    "budgets": {"pairs-8": {"axis": "pairs", "limit": 8}},
    "budget": "pairs-8",
    "train": {"batch_size": 2, "lora": {"r": 4, "alpha": 8, "layers": 2}, "checkpoints": 4},
    "tune": {"learning_rates": [0.03]},
    "methods": ["start", "dpo", "sail-pr"],
    "benchmarks": {"preference": {"max_new_tokens": 6}, "mt_bench_official": {"max_new_tokens": 4}},
}  # fmt: skip


class Undisturbed(NamedTuple):
    """The comparison as it is if nothing happens.

    Attributes:
        folder: with its results and its store.
        seconds: that it took.
        requests: to the judge.
    """

    folder: Path
    seconds: float
    requests: Counter[str]


def prepare(folder: Path, judge: Judge, processes: int = 1) -> Path:
    """A folder with the recipe and the data of the official set.

    Args:
        folder: is made.
        judge: that the recipe names.
        processes: in which each run trains, with as many pairs a step.
    """
    folder.mkdir(parents=True)
    write_questions(write_official_data(folder / "official"), QUESTIONS)
    address = f"http://127.0.0.1:{judge.port}/v1"
    endpoint = {"model": "judge-1", "base_url": address, "concurrency": CONCURRENCY, "retries": 1}
    train = RECIPE["train"]
    if processes > 1:
        train = train | {"processes": processes, "batch_size": train["batch_size"] // processes}
    write_tiny(folder / "chaos.yaml", **(RECIPE | {"train": train}), judge=endpoint)
    return folder


def undisturbed(folder: Path, judge: Judge, processes: int = 1) -> Undisturbed:
    """Run the comparison from its beginning to its end.

    Args:
        folder: is made.
        judge: is asked.
        processes: in which each run trains.
    """
    prepare(folder, judge, processes)
    judge.forget()
    command = Command(folder, ARGUMENTS, folder / "log.txt")
    ended = command.wait(2 * DEADLINE_S)
    seconds = time.monotonic() - command.began
    command.end()
    if not ended or command.code:
        raise RuntimeError(f"the undisturbed comparison failed: {command.output[-2000:]}")
    return Undisturbed(folder, seconds, judge.requests())


def copied(whole: Undisturbed, folder: Path) -> Path:
    """A copy of the finished comparison.

    Args:
        whole: the comparison.
        folder: is made.
    """
    return Path(shutil.copytree(whole.folder, folder, symlinks=True))
