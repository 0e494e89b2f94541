"""The small comparison that everything is done to, what it costs undisturbed, and whether another equals it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
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

CLOCK = ("seconds", "hours", "peak_memory_bytes", "run_key", "workers")
"""Parts of the names of what a clock or the operating system decides, or is a hash over it."""

PAID_BY_THE_FIRST = ("ledger", "phases", "eval")
"""In a result: what evaluation spent. Answers that rows share are charged to the row that samples them first, and a kill
can change which one that is."""

SPEED = "a run took"
"""In the sentence of the summary that says how long runs took."""


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


def prepare(folder: Path, judge: Judge) -> Path:
    """A folder with the recipe and the data of the official set.

    Args:
        folder: is made.
        judge: that the recipe names.
    """
    folder.mkdir(parents=True)
    write_questions(write_official_data(folder / "official"), QUESTIONS)
    address = f"http://127.0.0.1:{judge.port}/v1"
    endpoint = {"model": "judge-1", "base_url": address, "concurrency": CONCURRENCY, "retries": 1}
    write_tiny(folder / "chaos.yaml", **RECIPE, judge=endpoint)
    return folder


def undisturbed(folder: Path, judge: Judge) -> Undisturbed:
    """Run the comparison from its beginning to its end.

    Args:
        folder: is made.
        judge: is asked.
    """
    prepare(folder, judge)
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
    return Path(shutil.copytree(whole.folder, folder))


def differences(folder: Path, whole: Undisturbed) -> list[str]:
    """Where the results or the stages of a comparison are not those of the undisturbed one; empty if they are."""
    found = []
    for part, facts in (("results/local/chaos/pairs-8", _results), (".sail-bench/stages", _stages)):
        ours, expected = facts(folder / part), facts(whole.folder / part)
        found += [f"{name} is not there" for name in sorted(expected.keys() - ours.keys())]
        found += [f"{name} is there" for name in sorted(ours.keys() - expected.keys())]
        for name in sorted(expected.keys() & ours.keys()):
            found += [f"{name}{place}" for place in _differing(ours[name], expected[name], "")]
    return found


def _results(folder: Path) -> dict[str, Any]:
    """Result files and the summary by name."""
    files = [*folder.glob("*/seed-*.json"), *folder.glob("summary.json")]
    found = {str(path.relative_to(folder)): json.loads(path.read_text()) for path in files}
    ledger, phases, name = PAID_BY_THE_FIRST
    for value in found.values():
        value.get(ledger, {}).get(phases, {}).pop(name, None)
    return found


def _stages(folder: Path) -> dict[str, Any]:
    """Files of stages by name: hashes; of JSON its content, as it may hold seconds."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            found[name] = {key: manifest[key] for key in ("kind", "inputs")}
        elif path.name == "log.json" or path.suffix == ".jsonl":
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[name] = [json.loads(line) for line in lines]
        elif path.name == "adapter_config.json":
            config = json.loads(path.read_text())  # PEFT writes a set of names, in any order, and where the base lies
            found[name] = config | {"target_modules": sorted(config["target_modules"]), "base_model_name_or_path": ""}
        elif path.is_file() and path.name not in (".manifest.json.copy", "training_args.bin"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _differing(value: Any, expected: Any, place: str) -> Iterator[str]:
    """Places where two JSON values differ, clocks aside."""
    if isinstance(value, dict) and isinstance(expected, dict):
        for key in sorted({*value, *expected}):
            if any(name in key for name in CLOCK):
                continue
            if key in value and key in expected:
                yield from _differing(value[key], expected[key], f"{place}/{key}")
            else:
                yield f"{place}/{key}: only in one"
    elif isinstance(value, list) and isinstance(expected, list) and len(value) == len(expected):
        for number, pair in enumerate(zip(value, expected, strict=True)):
            yield from _differing(*pair, f"{place}[{number}]")
    elif value != expected and not (value != value and expected != expected) and SPEED not in str(value):
        yield f"{place}: {str(value)[:60]} for {str(expected)[:60]}"
