"""Kills at random moments: of the command, its group, a child, a machine; then the same command, until it ends."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path
from typing import NamedTuple

from harness.run.pool import RETRIES
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

LOOK_S = 0.5
"""Machines that are gone are replaced after so long."""

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


class Machines:
    """Where a command's jobs run: here, in processes of the command.

    Attributes:
        kills: by name; each is given the command.
        survived: names of those that the command has to survive, :data:`RETRIES` of them.
        arguments: of ``sail-bench``.
        hands: processes elsewhere that can each lose its calls in flight after a kill, a moment later; 0 if there are
            none.
    """

    kills: Mapping[str, Callable[[Command], None]] = KILLS
    survived: Collection[str] = ()
    arguments: Sequence[str] = ARGUMENTS
    hands = 0

    def possible(self, command: Command) -> list[str]:
        """Names of the kills that would meet something now."""
        return [name for name, kill in self.kills.items() if kill is not kill_child or command.children()]

    def ready(self, folder: Path) -> None:
        """Start what is not there; called again and again.

        Args:
            folder: the command works in.
        """

    def faults(self) -> list[Fault]:
        """What is wrong with the machines that are no longer there; called after the last command of a cycle."""
        return []


class Cycle(NamedTuple):
    """A comparison that is killed until it ends.

    Attributes:
        folder: of it.
        seconds: that it takes undisturbed.
        machines: where its jobs run.
        judge: that is asked.
        random: decides moments and kinds.
    """

    folder: Path
    seconds: float
    machines: Machines
    judge: Judge
    random: random.Random


class Ended(NamedTuple):
    """How a cycle ended: kills that may have met calls to the judge, and what is wrong with the last command."""

    calls: int
    faults: list[Fault]


def run(
    folder: Path,
    kills: int,
    seed: int,
    minutes: float = 60,
    processes: int = 1,
    part: str = "kills",
    machines: AbstractContextManager[Machines] | None = None,
) -> Outcome:
    """All cycles.

    Args:
        folder: for them.
        kills: how many there are to be.
        seed: of moments and kinds.
        minutes: after which no further cycle begins.
        processes: in which each run trains: a killed child may be one of them.
        part: name of the outcome.
        machines: where jobs run; here by default.
    """
    until = time.monotonic() + 60 * minutes
    with judge(folder / "requests.txt") as asked, machines or nullcontext(Machines()) as where:
        outcome = Outcome(part, [Line(name) for name in where.kills])
        lines = {line.name: line for line in outcome.lines}
        results, stages, twice = Line("results after the last kill"), Counter[str](), 0
        chance = random.Random(seed)
        whole = undisturbed(folder / "whole", asked, processes)
        seconds = whole.seconds
        if machines:
            seconds = _without_kills(prepare(folder / "no-kill", asked, processes), whole, where, outcome)
        number = done = 0
        while done < kills and time.monotonic() < until:
            number += 1
            asked.forget()
            cycle = Cycle(prepare(folder / f"cycle-{number}", asked, processes), seconds, where, asked, chance)
            calls, faults = _until_it_ends(cycle, min(kills - done, MOST_KILLS), lines, stages)
            extra = asked.requests() - whole.requests
            repeated = sum(extra.values())
            twice += repeated
            faults += [Fault("difference", text) for text in differences(cycle.folder, whole.folder)]
            if repeated > CONCURRENCY * calls * max(1, where.hands):
                text = f"{repeated} calls, {len(extra)} of them different, after {calls} kills with calls under way"
                faults.append(Fault("paid twice", text))
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


def _without_kills(folder: Path, whole: Undisturbed, machines: Machines, outcome: Outcome) -> float:
    """Run the comparison on other machines, undisturbed too: a line of its own, and the seconds that it took.

    Args:
        folder: it works in.
        whole: the comparison on this machine alone, in processes of the command.
        machines: where its jobs run.
        outcome: gets the line.
    """
    machines.ready(folder)
    command = Command(folder, machines.arguments, folder / "log.txt")
    ended = command.wait(2 * DEADLINE_S)
    seconds = time.monotonic() - command.began
    faults = faults_of(command, ended=ended)
    if command.code:
        faults.append(Fault("no fix", f"exit code {command.code} without a kill: {command.output[-400:]}"))
    faults += [Fault("difference", text) for text in differences(folder, whole.folder)] + machines.faults()
    line = Line("no kill", note=f"{seconds:.0f} s, and {whole.seconds:.0f} s in processes of the command")
    line.add(folder.name, faults)
    outcome.lines.append(line)
    return seconds


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
    machines, share = cycle.machines, cycle.random.choice(SHARES)
    command, calls, survived = None, 0, 0
    for number in count(1):
        before = sum(cycle.judge.requests().values())
        machines.ready(cycle.folder)
        command = command or Command(cycle.folder, machines.arguments, cycle.folder / "log.txt")
        if number > most or _wait(command, cycle, cycle.random.uniform(0, share * cycle.seconds)):
            break
        possible = machines.possible(command)
        name = cycle.random.choice([n for n in possible if survived < RETRIES or n not in machines.survived])
        stages[f"{name}: {_under_way(cycle.folder)}"] += 1
        machines.kills[name](command)
        calls += bool(machines.hands) or sum(cycle.judge.requests().values()) > before
        survived = survived + 1 if name in machines.survived else 0
        ended = survived or _wait(command, cycle, DEADLINE_S)
        lines[name].add(
            f"{cycle.folder.name}, kill {number}", [] if survived else faults_of(command, ended=bool(ended))
        )
        command = command if survived else None
    assert command
    ended = _wait(command, cycle, (1 + survived) * DEADLINE_S)
    faults = faults_of(command, ended=ended)
    if ended and command.code:
        faults.append(Fault("no fix", f"exit code {command.code} at the end: {command.output[-400:]}"))
    return Ended(calls, faults + machines.faults())


def _wait(command: Command, cycle: Cycle, seconds: float) -> bool:
    """Wait until a command has ended, with machines that are there; whether it has.

    Args:
        command: that works in the folder of the cycle.
        cycle: whose machines they are.
        seconds: at most.
    """
    until = time.monotonic() + seconds
    while not (ended := command.wait(min(LOOK_S, max(0, until - time.monotonic())))) and time.monotonic() < until:
        cycle.machines.ready(cycle.folder)
    return ended


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
