"""``python -m tests.chaos``: every part in a process of its own, and one table. Exit code 1 if anything is wrong."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import click

from tests.chaos import clusters, full_disk, fuzz, kills, matrix, together
from tests.chaos.outcome import Line, Outcome, table, write


class Sizes(NamedTuple):
    """How much is done.

    Attributes:
        kills: at random moments.
        cases: of the fuzz, over all that it feeds.
        minutes: after which no further cycle of kills, or case of damage, begins.
        seed: of all that is random.
        quick: whether everything is small.
    """

    kills: int
    cases: int
    minutes: float
    seed: int
    quick: bool


PROCESSES = 2
"""Of a training, in the part of that name; it has a quarter of the kills."""


def _on_workers(folder: Path, sizes: Sizes) -> Outcome:
    """A quarter of the kills, with jobs that workers take from a folder."""
    machines = clusters.folder_of_jobs()
    return kills.run(folder, max(1, sizes.kills // 4), sizes.seed, sizes.minutes, part="jobs", machines=machines)


def _on_ray(folder: Path, sizes: Sizes) -> Outcome:
    """A tenth of the kills, with jobs on a Ray cluster."""
    if absent := clusters.ray_absent():
        return Outcome("ray", [Line("kills", skipped=absent)])
    machines = clusters.ray_cluster()
    return kills.run(folder, max(1, sizes.kills // 10), sizes.seed, sizes.minutes, part="ray", machines=machines)


PARTS: dict[str, Callable[[Path, Sizes], Outcome]] = {
    "kills": lambda folder, sizes: kills.run(folder, sizes.kills, sizes.seed, sizes.minutes),
    "processes": lambda folder, sizes: kills.run(
        folder, sizes.kills // 4, sizes.seed, sizes.minutes, PROCESSES, part="processes"
    ),
    "jobs": _on_workers,
    "ray": _on_ray,
    "damage": lambda folder, sizes: matrix.run(folder, sizes.seed, sizes.minutes, quick=sizes.quick),
    "full-disk": lambda folder, sizes: full_disk.run(folder, quick=sizes.quick),
    "two": lambda folder, sizes: together.run(folder, sizes.seed, quick=sizes.quick),
    "fuzz": lambda folder, sizes: fuzz.run(folder, sizes.cases, sizes.seed),
}


@click.command()
@click.option("--kills", "most_kills", default=200, show_default=True, help="Kills at random moments.")
@click.option("--cases", default=2000, show_default=True, help="Odd inputs, over all kinds.")
@click.option("--minutes", default=60.0, show_default=True, help="Kills, and damage, begin nothing new after these.")
@click.option("--seed", default=0, show_default=True, help="Of moments, damage and odd inputs.")
@click.option("--only", metavar="PART,...", help=f"These parts: {', '.join(PARTS)}.")
@click.option("--quick", is_flag=True, help="A look: few of everything, within three minutes on two cores.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder that gets chaos.json and chaos.md.")
def main(
    most_kills: int, cases: int, minutes: float, seed: int, only: str | None, quick: bool, out: Path | None
) -> None:
    """Kill, damage, fill the disk, run two at once, feed odd input; and compare with an undisturbed comparison."""
    if not hasattr(os, "fork"):
        raise click.UsageError("processes are killed and forked here, which Windows cannot do")
    names = [name.strip() for name in only.split(",")] if only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise click.UsageError(f"no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    most_kills, cases = (min(most_kills, 8), min(cases, 80)) if quick else (most_kills, cases)
    sizes = Sizes(most_kills, cases, minutes, seed, quick)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="sail-bench-chaos-") as scratch:
        for name in names:
            outcomes.append(run_part(name, Path(scratch) / name, sizes))
            print(f"{name}: {outcomes[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    click.echo(table(outcomes))
    command = " ".join(["python -m tests.chaos", *sys.argv[1:]])
    if out:
        write(outcomes, command, out)
    sys.exit(int(not all(outcome.sound for outcome in outcomes)))


def run_part(name: str, folder: Path, sizes: Sizes) -> Outcome:
    """A part, in a fork of this process: nothing that it does reaches the next one.

    Args:
        name: of it.
        folder: is made.
        sizes: of it.
    """
    folder.mkdir()
    began, result = time.monotonic(), folder / "outcome.json"
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setsid()
            outcome = PARTS[name](folder, sizes)
            result.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
            code = 0
        except BaseException as error:  # noqa: BLE001 - whatever ends a part belongs in its row
            traceback.print_exc()
            outcome = Outcome(name, broken=f"{type(error).__name__}: {error}".splitlines()[0])
            result.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        finally:
            sys.stdout.flush()
            os._exit(code)
    try:
        os.waitpid(pid, 0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    outcome = Outcome.load(json.loads(result.read_text(encoding="utf-8"))) if result.exists() else Outcome(name)
    outcome.broken = outcome.broken or ("" if result.exists() else "its process ended")
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


if __name__ == "__main__":
    main()
