"""Kills at random moments: of the command, its group, a child; then the same command, until it ends."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.chaos.command import Command
from tests.chaos.compared import differences
from tests.chaos.ended import faults_of
from tests.chaos.judge import Judge, judge
from tests.chaos.outcome import Fault, Line, Outcome
from tests.chaos.setting import (
    ARGUMENTS,
    CONCURRENCY,
    DEADLINE_S,
    Undisturbed,
    prepare,
    undisturbed,
)

MOST_KILLS = 12
"""Of a cycle; after them it may go on to its end."""

STOPPED_S = 0.3
"""Seconds between SIGSTOP and SIGKILL."""

SHARES = (0.35, 0.7, 1.0)
"""A kill comes within this share of the undisturbed time: small ones make many kills a cycle, large ones late kills."""


def kill_group(command: Command) -> None:
    """As ``kill -9`` of all."""
    command.signal(signal.SIGKILL, group=True)


def kill_parent(command: Command) -> None:
    """As the kernel does when memory is short."""
    command.signal(signal.SIGKILL)


def kill_child(command: Command) -> None:
    """The newest process that it started: a run, or else the fork server."""
    for child in command.children()[-1:]:
        child.kill()


def terminate(command: Command) -> None:
    """As a batch system does."""
    command.signal(signal.SIGTERM)


def interrupt(command: Command) -> None:
    """Ctrl-C goes to the whole group."""
    command.signal(signal.SIGINT, group=True)


def stop_then_kill(command: Command) -> None:
    """The command is stopped while its children go on, and then all is killed."""
    command.signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    command.signal(signal.SIGKILL, group=True)


KILLS: dict[str, Callable[[Command], None]] = {
    "kill -9 of the group": kill_group,
    "kill -9 of the parent": kill_parent,
    "kill -9 of a child": kill_child,
    "SIGTERM": terminate,
    "Ctrl-C": interrupt,
    "SIGSTOP, then kill -9": stop_then_kill,
}


WITHOUT_CHILDREN = [name for name, kill in KILLS.items() if kill is not kill_child]


class Cycle(NamedTuple):
    """A comparison that is killed until it ends.

    Attributes:
        folder: of it.
        whole: the undisturbed one.
        judge: that both ask.
        random: decides moments and kinds.
    """

    folder: Path
    whole: Undisturbed
    judge: Judge
    random: random.Random


class Ended(NamedTuple):
    """How a cycle ended: kills that may have met calls to the judge, and what is wrong with the last command."""

    calls: int
    faults: list[Fault]


def run(folder: Path, kills: int, seed: int, minutes: float = 60, processes: int = 1) -> Outcome:
    """All cycles.

    Args:
        folder: for them.
        kills: how many there are to be.
        seed: of moments and kinds.
        minutes: after which no further cycle begins.
        processes: in which each run trains: a killed child may be one of them.
    """
    until = time.monotonic() + 60 * minutes
    outcome = Outcome("kills" if processes == 1 else "processes", [Line(name) for name in KILLS])
    lines = {line.name: line for line in outcome.lines}
    results, stages, twice = Line("results after the last kill"), Counter[str](), 0
    chance = random.Random(seed)
    with judge(folder / "requests.txt") as asked:
        whole = undisturbed(folder / "whole", asked, processes)
        number = done = 0
        while done < kills and time.monotonic() < until:
            number += 1
            asked.forget()
            cycle = Cycle(prepare(folder / f"cycle-{number}", asked, processes), whole, asked, chance)
            calls, faults = _until_it_ends(cycle, min(kills - done, MOST_KILLS), lines, stages)
            repeated = sum((asked.requests() - whole.requests).values())
            twice += repeated
            faults += [Fault("difference", text) for text in differences(cycle.folder, whole.folder)]
            if repeated > CONCURRENCY * calls:
                faults.append(Fault("paid twice", f"{repeated} calls after {calls} kills with calls under way"))
            results.add(f"cycle {number} (seed {seed})", faults)
            done = sum(line.cases for line in lines.values())
            print(f"cycle {number}: {done} kills, {len(faults)} faults", file=sys.stderr, flush=True)
            if not faults:
                shutil.rmtree(cycle.folder)
    for line in lines.values():
        line.note = ", ".join(f"{name.split(': ')[1]} {n}" for name, n in _of(stages, line.name))
    results.note = f"{twice} calls in flight were asked again"
    outcome.lines.append(results)
    return outcome


def _of(stages: Counter[str], kill: str) -> list[tuple[str, int]]:
    return [(name, n) for name, n in stages.most_common() if name.startswith(f"{kill}: ")]


def _until_it_ends(cycle: Cycle, most: int, lines: dict[str, Line], stages: Counter[str]) -> Ended:
    """Kill a comparison until it ends by itself.

    Args:
        cycle: the comparison.
        most: kills.
        lines: count them.
        stages: count what was under way, by kill.
    """
    share = cycle.random.choice(SHARES)
    calls, number = 0, 0
    while True:
        before = sum(cycle.judge.requests().values())
        command = Command(cycle.folder, ARGUMENTS, cycle.folder / "log.txt")
        number += 1
        if number > most or command.wait(cycle.random.uniform(0, share * cycle.whole.seconds)):
            ended = command.wait(DEADLINE_S)
            faults = faults_of(command, ended=ended)
            if ended and command.code:
                faults.append(Fault("no fix", f"exit code {command.code} without a kill: {command.output[-400:]}"))
            return Ended(calls, faults)
        name = cycle.random.choice(list(KILLS) if command.children() else WITHOUT_CHILDREN)
        stages[f"{name}: {_under_way(cycle.folder)}"] += 1
        KILLS[name](command)
        ended = command.wait(DEADLINE_S)
        lines[name].add(f"{cycle.folder.name}, kill {number}", faults_of(command, ended=ended))
        calls += sum(cycle.judge.requests().values()) > before


def _under_way(folder: Path) -> str:
    """Kind of the stage that was written last, among those that are not finished."""
    works = [path for path in folder.glob(".sail-bench/work/*") if not path.name.endswith(".old")]
    if not works:
        return "between stages" if any(folder.glob(".sail-bench/stages/*")) else "start"
    return max(works, key=_touched).name.split("-")[0]


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it has just been finished
        return 0.0
