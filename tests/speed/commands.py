"""The command line: its start, a comparison by phase, the same command again, and how that grows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kit.command import run_process, write_tiny
from tests.speed.measure import Ratio, Setting, Side, by_turns, ratio_of, timed

ROOT = Path(__file__).resolve().parents[2]

SMALL: dict[str, Any] = {
    "methods": ["start", "dpo"],
    "benchmarks": {"preference": {"max_new_tokens": 8}},
    "tune": {"learning_rates": [1e-3]},
}
"""What the growing recipe changes of the built-in recipe ``tiny``."""


def commands(setting: Setting) -> list[Ratio]:
    """``--help`` against an empty interpreter; ``compare`` of the recipe ``tiny`` by phase, as shares of its time (with
    ``--quick`` of a smaller recipe); the same command again against ``--help``; and growth."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    folder, repeats = setting.folder, 3
    empty: Side = lambda place: timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))  # noqa: E731
    usage = command_in(folder, "--help")
    ratios = [by_turns("sail-bench --help, against an empty interpreter", "s", usage, empty, 2 * repeats)]
    recipe = write_tiny(folder / "tiny.yaml", **(SMALL if setting.quick else {}))
    first, again = command_in(folder, "compare", recipe, "--workers", "1"), command_in(folder, "compare", recipe)
    whole = first(0)
    phases = _phases(folder / "results/local/tiny")
    phases["no phase (processes, planning, pages)"] = whole - sum(phases.values())
    for phase, seconds in phases.items():
        ratios.append(ratio_of(f"compare tiny, {phase}, of all", "s", [seconds], [whole]))
    ratios.append(by_turns("compare again with nothing to do, against --help", "s", again, usage, repeats))
    return [*ratios, *_growth(folder / "growth", repeats, setting.quick)]


def command_in(folder: Path, *arguments: object) -> Side:
    """Seconds of a command in a folder.

    Raises:
        RuntimeError: when it is run and fails.
    """

    def run() -> None:
        done = run_process(*arguments, cwd=folder)
        if done.returncode:
            raise RuntimeError(f"sail-bench {' '.join(map(str, arguments))}: {done.stderr.strip()[-300:]}")

    return lambda place: timed(run)


def _phases(folder: Path) -> dict[str, float]:
    """Seconds by phase, over all methods, the search included."""
    seconds: dict[str, float] = {}
    for file in folder.glob("*/*/seed-*.json"):
        result = json.loads(file.read_text(encoding="utf-8"))
        for ledger in (result["ledger"], result["tuning_ledger"] or {"phases": {}}):
            for phase, spent in ledger["phases"].items():
                if phase != "wall" and spent.get("seconds"):
                    seconds[phase] = seconds.get(phase, 0.0) + spent["seconds"]
    return dict(sorted(seconds.items()))


def _growth(folder: Path, repeats: int, quick: bool) -> list[Ratio]:
    """The same command again, and the leaderboard, of a comparison and of larger ones: against those of the smaller."""
    data = {"train_prompts": 24, "tune_prompts": 8, "heldout_prompts": 12, "samples": 4, "max_new_tokens": 16}
    many = {"methods": ["start", "dpo", "simpo", "ipo", "hinge", "orpo"]}
    larger: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "3 times the methods": (many, ()),
        "3 times the seeds": ({}, ("--seeds", "3")),
        "8 times the prompts": ({"data": data | {"eval_prompts": 64}}, ()),
    }
    if quick:
        larger = {"8 times the prompts": larger["8 times the prompts"]}
    small = _variant(folder, "small", {"data": data | {"eval_prompts": 8}}, ())
    ratios = []
    for place, (name, (changes, options)) in enumerate(larger.items()):
        grown = _variant(folder, f"larger-{place}", {"data": data | {"eval_prompts": 8}} | changes, options)
        for what, one, other in zip(("nothing to do", "leaderboard"), grown, small, strict=True):
            ratios.append(by_turns(f"{what}, {name}", "s", one, other, repeats))
    return ratios


def _variant(folder: Path, name: str, changes: dict[str, Any], options: tuple[str, ...]) -> tuple[Side, Side]:
    """A finished comparison: the same command again, and its leaderboard."""
    recipe = write_tiny(folder / f"{name}.yaml", **SMALL | changes)
    again = command_in(folder, "compare", recipe, *options)
    again(0)
    return again, command_in(folder, "leaderboard", name)
