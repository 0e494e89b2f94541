"""Two processes with the same command on one store at once."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.chaos.command import Command
from tests.chaos.compared import differences
from tests.chaos.ended import faults_of
from tests.chaos.judge import judge
from tests.chaos.outcome import Fault, Line, Outcome
from tests.chaos.setting import ARGUMENTS, DEADLINE_S, prepare, undisturbed

TIMES, QUICK_TIMES = 10, 1


def run(folder: Path, seed: int, *, quick: bool) -> Outcome:
    """Some pairs of commands, the second a random while after the first.

    Args:
        folder: for the comparisons.
        seed: of the whiles.
        quick: whether it is a look.
    """
    line, chance = Line("two commands at once"), random.Random(seed)
    with judge(folder / "requests.txt") as asked:
        whole = undisturbed(folder / "whole", asked)
        for number in range(QUICK_TIMES if quick else TIMES):
            home = prepare(folder / f"pair-{number}", asked)
            asked.forget()
            first = Command(home, ARGUMENTS, home / "first.txt")
            time.sleep(chance.uniform(0, whole.seconds / 2) if number else 0)
            second = Command(home, ARGUMENTS, home / "second.txt")
            faults = []
            for command in (first, second):
                faults += faults_of(command, ended=command.wait(2 * DEADLINE_S))
                if command.code:
                    faults.append(Fault("no fix", f"exit code {command.code}: {command.output[-400:]}"))
            if repeated := sum((asked.requests() - whole.requests).values()):
                faults.append(Fault("paid twice", f"{repeated} calls"))
            faults += [Fault("difference", text) for text in differences(home, whole.folder)]
            line.add(f"pair {number}", faults)
    return Outcome("two", [line])
