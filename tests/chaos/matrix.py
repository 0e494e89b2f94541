"""Every file of a finished comparison, and of an interrupted one, by every damage: the same command ends right."""

from __future__ import annotations

import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.chaos.command import Command
from tests.chaos.compared import differences
from tests.chaos.ended import faults_of, sentence_of
from tests.chaos.judge import Judge, judge
from tests.chaos.outcome import Fault, Line, Outcome
from tests.chaos.setting import ARGUMENTS, DEADLINE_S, Undisturbed, prepare, undisturbed
from tests.kit.damage import DAMAGES, damage

NO_ARTIFACT = ("locks/", "logs/", "quarantine/")
"""Folders of a store that hold nothing of a comparison."""

CACHE = "rows/"
"""In the paths of the cache of rows."""

LAST_DIGIT = 2e-6
"""Of numbers with six decimals, which rows that are computed again in another batch may have."""

QUICK = 6
"""Cases of a look."""


class Case(NamedTuple):
    """One damage to the files of one kind.

    Attributes:
        state: of the comparison: ``finished`` or ``interrupted``.
        artifact: pattern of the files, in the folder of the comparison.
        how: one of :data:`tests.kit.damage.DAMAGES`.
    """

    state: str
    artifact: str
    how: str


def run(folder: Path, seed: int, minutes: float, *, quick: bool) -> Outcome:
    """The whole matrix.

    Args:
        folder: for the copies.
        seed: of the order, and of which cases a look takes.
        minutes: after which no further case begins.
        quick: whether it is a look.
    """
    lines = {how: Line(how) for how in DAMAGES}
    ends, until = dict.fromkeys(DAMAGES, 0), time.monotonic() + 60 * minutes
    with judge(folder / "requests.txt", delay=0) as asked:
        whole = undisturbed(folder / "whole", asked)
        states = {"finished": whole.folder, "interrupted": _interrupted(folder / "interrupted", asked)}
        cases = [
            Case(state, name, how) for state, root in states.items() for name in artifacts(root) for how in DAMAGES
        ]
        random.Random(seed).shuffle(cases)
        for case in cases[:QUICK] if quick else cases:
            if time.monotonic() > until:
                break
            copy = Path(shutil.copytree(states[case.state], folder / "copy", symlinks=True))
            faults, sentence = _damaged(copy, case, whole)
            print(f"{case.state}, {case.artifact}, {case.how}: {len(faults)} faults {sentence}", file=sys.stderr)
            ends[case.how] += bool(sentence)
            lines[case.how].add(f"{case.state}: {case.artifact}", faults)
            shutil.rmtree(copy)
    for how, line in lines.items():
        of = sum(case.how == how for case in cases)
        line.note = f"of {of}; {ends[how]} ended in a sentence, the others in the same result"
    return Outcome("damage", list(lines.values()))


def artifacts(root: Path) -> list[str]:
    """Patterns of the files of a comparison, and of the policies' folders; a hash may be any."""
    found = {}
    for part in ("results", ".sail-bench"):
        for path in sorted((root / part).rglob("*")):
            name = path.relative_to(root).as_posix()
            if (path.is_file() or path.name == "policy") and not any(f"/{skipped}" in name for skipped in NO_ARTIFACT):
                found[re.sub(r"[0-9a-f]{16,}", "*", name)] = path
    return list(found)


def _interrupted(folder: Path, asked: Judge) -> Path:
    """A comparison that was killed in training, once a checkpoint was there.

    Args:
        folder: is made.
        asked: judges it.
    """
    prepare(folder, asked)
    command = Command(folder, [*ARGUMENTS, "--workers", "1"], folder / "log.txt")
    until = time.monotonic() + DEADLINE_S
    while len(list(folder.glob(".sail-bench/work/train-*/checkpoints/checkpoint-*/ledger.json"))) < 2:
        if not command.running() or time.monotonic() > until:
            raise RuntimeError(f"no training could be interrupted: {command.output[-500:]}")
        time.sleep(0.002)
    command.signal(signal.SIGKILL, group=True)
    command.wait(DEADLINE_S)
    command.end()
    return folder


def _damaged(copy: Path, case: Case, whole: Undisturbed) -> tuple[list[Fault], str]:
    """Damage a copy and run the command: what is wrong, and the sentence in which it ended, if it did.

    Args:
        copy: of the comparison.
        case: the damage.
        whole: the undisturbed comparison.
    """
    for path in _files(copy, case.artifact):
        damage(path, case.how)
    command = Command(copy, ARGUMENTS, copy / "log.txt")
    ended = command.wait(DEADLINE_S)
    faults, sentence = faults_of(command, ended=ended), ""
    if command.code:
        sentence = sentence_of(command)
        if ": " not in sentence.removeprefix("Error: "):
            faults.append(Fault("no fix", f"{case.how}: exit code {command.code}, {command.output[-400:]}"))
    elif ended:
        tolerance = LAST_DIGIT if CACHE in case.artifact else 0.0
        found = differences(copy, whole.folder, tolerance)
        faults += [Fault("difference", f"{case.how}: {text}") for text in found[:3]]
        if case.state == "finished" and case.artifact.startswith("results/") and not case.artifact.endswith(".json"):
            same = (copy / case.artifact).is_file() and _bytes(copy, case) == _bytes(whole.folder, case)
            faults += [] if same else [Fault("difference", f"{case.how}: the page was not written again")]
    return faults, sentence


def _bytes(root: Path, case: Case) -> bytes:
    return (root / case.artifact).read_bytes()


def _files(root: Path, artifact: str) -> Iterator[Path]:
    parts = artifact.split("/")
    found = [root]
    for part in parts:
        found = [path for folder in found for path in (folder.glob(part) if "*" in part else [folder / part])]
    return (path for path in found if path.exists())
