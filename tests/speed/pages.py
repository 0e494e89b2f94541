"""Pages of large comparisons: of 20 methods with 20 seeds, and of 1,000 result files in many comparisons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from harness.report.leaderboard import write_leaderboard
from harness.score.fits import FILE
from harness.score.results import write_result
from tests.kit.results import judged_run
from tests.speed.measure import Ratio, Setting, Side, by_turns, timed


def pages(setting: Setting) -> list[Ratio]:
    """``leaderboard`` of comparisons with length- and style-controlled scores, the first time and again, against
    reading and parsing their result files."""
    sizes = {"6 methods x 6 seeds": (1, 6, 6), "20 files": (5, 2, 2)}
    if not setting.quick:
        sizes = {"20 methods x 20 seeds": (1, 20, 20), "1,008 files": (28, 12, 3)}
    return [ratio for name, size in sizes.items() for ratio in _both(name, size, setting)]


def _both(name: str, size: tuple[int, int, int], setting: Setting) -> list[Ratio]:
    """The first time, and again.

    Args:
        name: of the lines.
        size: comparisons, methods and seeds.
        setting: where.
    """
    folders = write_comparisons(setting.folder / name.replace(" ", "-"), *size)

    def again(place: int) -> float:
        return timed(lambda: [write_leaderboard(folder) for folder in folders])

    def first(place: int) -> float:
        for folder in folders:
            (folder / FILE).unlink(missing_ok=True)
        return again(place)

    parsed: Side = lambda place: timed(  # noqa: E731
        lambda: [json.loads(file.read_bytes()) for folder in folders for file in folder.glob("*/seed-*.json")]
    )
    repeats = setting.repeats if setting.quick else 3
    ratios = [
        by_turns(f"leaderboard of {name}", "s", first, parsed, repeats),
        by_turns(f"leaderboard of {name}, again", "s", again, parsed, repeats),
    ]
    for folder in folders:
        shutil.rmtree(folder)
    return ratios


def write_comparisons(results: Path, comparisons: int, methods: int, seeds: int) -> list[Path]:
    """Result files of made-up runs that were judged on sets as long as the mini ones.

    Args:
        results: gets a recipe for each comparison.
        comparisons: number of them.
        methods: trained methods of each.
        seeds: of each method.

    Returns:
        the folder of each comparison.
    """
    folders = []
    for place in range(comparisons):
        folder = results / f"recipe-{place}" / "pairs-96"
        for number in range(methods):
            for seed in range(seeds):
                name = ("dpo", "sail-pr")[number] if number < 2 else f"method-{number}"
                run = judged_run(name, seed, strength=number / methods, key=(place, number, seed))
                write_result(folder / name / f"seed-{seed}.json", run)
        folders.append(folder)
    return folders
