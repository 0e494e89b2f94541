"""How a command ended: what is wrong with that."""

from __future__ import annotations

from tests.chaos.command import Command
from tests.chaos.outcome import Fault
from tests.chaos.setting import DEADLINE_S

LONGEST, BEFORE = 1200, 200
"""Characters of output that a fault shows: of an exception also what stands before it."""


def faults_of(command: Command, *, ended: bool) -> list[Fault]:
    """No end, an exception that reached the user, processes that live on.

    Args:
        command: is ended if it has not.
        ended: whether it did within its deadline.
    """
    faults, output = [], command.output
    if not ended:
        faults.append(Fault("hang", f"no end within {DEADLINE_S:.0f} s: {output[-LONGEST:]}"))
    if "Traceback" in output:
        place = max(0, output.index("Traceback") - BEFORE)
        faults.append(Fault("traceback", output[place : place + LONGEST]))
    return faults + [Fault("left behind", text) for text in command.end()]


def sentence_of(command: Command) -> str:
    """The line in which a command says why it failed; "" if there is none."""
    lines = [line for line in command.output.splitlines() if line.startswith("Error: ") or "failed: " in line]
    return lines[-1].strip() if lines else ""
