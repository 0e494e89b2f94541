"""What the parts count, and the table of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

Kind = Literal["difference", "traceback", "hang", "paid twice", "no fix", "left behind"]
KINDS: tuple[Kind, ...] = ("difference", "traceback", "hang", "paid twice", "no fix", "left behind")
"""What can be wrong: another result than undisturbed; an exception that reached the user; no end within the deadline; a
judge asked again for more than the calls in flight; an end without a sentence that says what to do; a process that
lives on."""


class Fault(NamedTuple):
    """Something that is wrong with the product.

    Attributes:
        kind: of it.
        text: what was seen, and where.
    """

    kind: Kind
    text: str


@dataclass
class Line:
    """Cases of one kind, and what was wrong with them.

    Attributes:
        name: of the cases.
        cases: how many there were; ``faults``: in them.
        note: what else was counted.
        skipped: why there were none; "" if there were.
    """

    name: str
    cases: int = 0
    faults: list[Fault] = field(default_factory=list)
    note: str = ""
    skipped: str = ""

    def add(self, case: str, faults: Iterable[Fault] = ()) -> None:
        """Count a case.

        Args:
            case: named in its faults.
            faults: what was wrong with it.
        """
        self.cases += 1
        self.faults += [fault._replace(text=f"{case}: {fault.text}") for fault in faults]

    def count(self, kind: Kind) -> int:
        """How many faults there were of a kind."""
        return sum(fault.kind == kind for fault in self.faults)


@dataclass
class Outcome:
    """A part of a run.

    Attributes:
        part: its name.
        lines: kinds of cases.
        seconds: that it took.
        broken: why the part itself ended early; "" if it did not.
    """

    part: str
    lines: list[Line] = field(default_factory=list)
    seconds: float = 0.0
    broken: str = ""

    @property
    def sound(self) -> bool:
        """Whether it ran to its end and nothing was wrong; cases that were skipped are no fault."""
        return not self.broken and not any(line.faults for line in self.lines)

    @classmethod
    def load(cls, value: Mapping[str, Any]) -> Outcome:
        """From JSON."""
        lines = [Line(**line | {"faults": [Fault(*fault) for fault in line["faults"]]}) for line in value["lines"]]
        return cls(**dict(value) | {"lines": lines})


def table(outcomes: Iterable[Outcome]) -> str:
    """The markdown table of a run, and below it every fault."""
    rows = ["| part | cases | number | " + " | ".join(KINDS) + " | |", "|---|---|---:|" + "---:|" * len(KINDS) + "---|"]
    faults, total = [], 0
    for outcome in outcomes:
        for line in outcome.lines:
            total += line.cases
            counts = [str(line.count(kind)) for kind in KINDS] if not line.skipped else [""] * len(KINDS)
            note = f"skipped: {line.skipped}" if line.skipped else line.note
            rows.append(f"| {outcome.part} | {line.name} | {line.cases} | " + " | ".join(counts) + f" | {note} |")
            faults += [f"- {outcome.part}, {line.name}, {fault.kind}: {fault.text}" for fault in line.faults]
        if outcome.broken:
            rows.append(f"| {outcome.part} | | | " + " | ".join([""] * len(KINDS)) + f" | broken: {outcome.broken} |")
    return "\n".join([*rows, "", f"{total:,} cases, {len(faults)} faults.", *faults])


def write(outcomes: Iterable[Outcome], command: str, folder: Path) -> None:
    """Write ``chaos.json`` and ``chaos.md``.

    Args:
        outcomes: of the parts.
        command: that made them.
        folder: of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = list(outcomes)
    value = {"command": command, "parts": [asdict(outcome) for outcome in outcomes]}
    (folder / "chaos.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    (folder / "chaos.md").write_text(f"`{command}`\n\n{table(outcomes)}\n", encoding="utf-8")
