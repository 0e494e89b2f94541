"""Work spread over workers, over a Ray cluster on this machine, and beside very many finished runs."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from tests.speed.commands import command_in
from tests.speed.measure import Ratio, Setting, by_turns, ratio_of

RUNS, QUICK_RUNS = 10_000, 1_000
"""Further runs in the store, each with a training, answers and judgments."""

KINDS = ("train", "answers", "judgments")


def workers(setting: Setting) -> list[Ratio]:
    """``compare tiny`` with two and four workers and on a Ray cluster of this machine, against one worker. Every
    command has a new store."""
    sides = {"1 worker": ("--workers", "1"), "2 workers": ("--workers", "2"), "4 workers": ("--workers", "4")}
    if importlib.util.find_spec("ray"):
        sides["a Ray cluster that it starts"] = ("--cluster", "ray")
    if setting.quick:
        sides = {name: sides[name] for name in ("1 worker", "2 workers")}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for place in range(1 if setting.quick else 3):
        for name, options in sides.items():
            folder = setting.folder / f"{place}-{name.replace(' ', '-')}"
            folder.mkdir()
            seconds[name].append(command_in(folder, "compare", "tiny", *options)(place))
            shutil.rmtree(folder)
    one = seconds.pop("1 worker")
    return [ratio_of(f"compare tiny, {name}, against one worker", "s", each, one) for name, each in seconds.items()]


def large_store(setting: Setting) -> list[Ratio]:
    """A command with nothing to do, and ``store ls``, in a store that holds very many other runs, against the same in
    a store without them."""
    number = QUICK_RUNS if setting.quick else RUNS
    small, large = setting.folder / "small", setting.folder / "large"
    small.mkdir()
    compare = ("compare", "tiny", "--methods", "start,dpo")
    command_in(small, *compare)(0)
    shutil.copytree(small, large, symlinks=True)
    _add_runs(large / ".sail-bench/stages", number)

    def ratio(name: str, *arguments: str) -> Ratio:
        ours, theirs = (command_in(folder, *arguments) for folder in (large, small))
        return by_turns(f"{name}, {number:,} further runs in the store, against none", "s", ours, theirs, 3)

    return [ratio("nothing to do", *compare), ratio("store ls", "store", "ls")]


def _add_runs(stages: Path, number: int) -> None:
    """Give a store further stages: links to the files of those that it has."""
    for kind in KINDS:
        finished = next(path for path in sorted(stages.iterdir()) if path.name.startswith(f"{kind}-"))
        files = [path.relative_to(finished) for path in finished.rglob("*") if path.is_file()]
        for place in range(number):
            folder = stages / f"{kind}-{place:016x}"
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.link(finished / file, folder / file)
