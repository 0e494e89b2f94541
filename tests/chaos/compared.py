"""Whether a comparison has the results and the stages of another, clocks aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CLOCK = ("seconds", "hours", "peak_memory_bytes", "run_key", "workers")
"""Parts of the names of what a clock or the operating system decides, or is a hash over it."""

PAID_BY_THE_FIRST = ("ledger", "phases", "eval")
"""In a result: what evaluation spent. Answers that rows share are charged to the row that samples them first, and a
kill can change which one that is."""

SPEED = "a run took"
"""In the sentence of the summary that says how long runs took."""


def differences(folder: Path, whole: Path, tolerance: float = 0.0) -> list[str]:
    """Where the results or the stages of a comparison are not those of the undisturbed one; empty if they are.

    Args:
        folder: of the comparison.
        whole: of the undisturbed one.
        tolerance: of a number, relative to it or to 1, for rows that are computed again in batches of another shape.
    """
    found = []
    for part, facts in (("results/local/chaos/pairs-8", _results), (".sail-bench/stages", _stages)):
        ours, expected = facts(folder / part), facts(whole / part)
        found += [f"{name} is not there" for name in sorted(expected.keys() - ours.keys())]
        found += [f"{name} is there" for name in sorted(ours.keys() - expected.keys())]
        for name in sorted(expected.keys() & ours.keys()):
            found += [f"{name}{place}" for place in _differing(ours[name], expected[name], "", tolerance)]
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


def _differing(value: Any, expected: Any, place: str, tolerance: float) -> Iterator[str]:
    """Places where two JSON values differ, clocks aside.

    Args:
        value: one of them.
        expected: the other.
        place: where they stand.
        tolerance: of numbers.
    """
    if isinstance(value, dict) and isinstance(expected, dict):
        for key in sorted({*value, *expected}):
            if any(name in key for name in CLOCK):
                continue
            if key in value and key in expected:
                yield from _differing(value[key], expected[key], f"{place}/{key}", tolerance)
            else:
                yield f"{place}/{key}: only in one"
    elif isinstance(value, list) and isinstance(expected, list) and len(value) == len(expected):
        for number, pair in enumerate(zip(value, expected, strict=True)):
            yield from _differing(*pair, f"{place}[{number}]", tolerance)
    elif isinstance(value, float) and isinstance(expected, float) and _near(value, expected, tolerance):
        return
    elif value != expected and SPEED not in str(value):
        yield f"{place}: {str(value)[:60]} for {str(expected)[:60]}"


def _near(value: float, expected: float, tolerance: float) -> bool:
    if value != value or expected != expected:
        return value != value and expected != expected
    return abs(value - expected) <= tolerance * max(1.0, abs(expected))
