"""What a part of the GPU check is given and gives back, and how figures become a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Setting:
    """Where a part works, and how large.

    Attributes:
        folder: for its files.
        small: sizes for a CPU, to try the script itself.
    """

    folder: Path
    small: bool

    @property
    def device(self) -> str:
        """The device that torch computes on."""
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


class Figure(NamedTuple):
    """One measured value.

    Attributes:
        what: is measured.
        value: a number or a word.
        unit: of the number.
        goal: what it should be, in words; "" if it is only reported.
        reached: whether it is so; None if there is no goal, or it says nothing on this machine.
    """

    what: str
    value: float | str
    unit: str = ""
    goal: str = ""
    reached: bool | None = None


class Skipped(Exception):  # noqa: N818 - no error: what a part needs is not here
    """Why a part has nothing to measure on this machine."""


@dataclass(frozen=True)
class Outcome:
    """What became of a part: ``ok``, ``skipped``, ``failed`` or ``out of time``; with a reason, if there is one."""

    part: str
    status: str
    seconds: float
    figures: tuple[Figure, ...] = ()
    reason: str = ""

    def dump(self) -> dict[str, Any]:
        """JSON form."""
        figures = [figure._asdict() for figure in self.figures]
        return {
            "part": self.part,
            "status": self.status,
            "seconds": round(self.seconds, 1),
            "reason": self.reason,
            "figures": figures,
        }

    @staticmethod
    def load(value: Mapping[str, Any]) -> Outcome:
        """An outcome from its JSON form."""
        figures = tuple(Figure(**each) for each in value["figures"])
        return Outcome(value["part"], value["status"], value["seconds"], figures, value["reason"])

    @property
    def missed(self) -> list[Figure]:
        """Figures with a goal that was not reached."""
        return [figure for figure in self.figures if figure.reached is False]


def read_figures(file: Path) -> tuple[Figure, ...]:
    """The figures that a part's process wrote."""
    return tuple(Figure(**value) for value in json.loads(file.read_text(encoding="utf-8")))


def write_figures(file: Path, figures: Sequence[Figure]) -> None:
    """Write a part's figures."""
    file.write_text(json.dumps([figure._asdict() for figure in figures]), encoding="utf-8")


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """A markdown page: the machine, and a row for each figure."""
    lines = ["# GPU check", "", "Written by `python tests/gpu/gpu_check.py` ([docs/gpu.md](../../docs/gpu.md)).", ""]
    lines += [f"* {name}: {value}" for name, value in machine.items()]
    lines += ["", "| part | figure | value | goal |", "| --- | --- | --- | --- |"]
    for outcome in outcomes:
        if outcome.status != "ok":
            lines.append(f"| {outcome.part} | **{outcome.status}** | {outcome.reason.replace('|', '/')} | |")
        for figure in outcome.figures:
            reached = {True: "reached", False: "**missed**", None: "not judged here"}[figure.reached]
            goal = f"{figure.goal}: {reached}" if figure.goal else ""
            lines.append(f"| {outcome.part} | {figure.what} | {_number(figure.value)} {figure.unit} | {goal} |")
    total = sum(outcome.seconds for outcome in outcomes)
    return "\n".join([*lines, "", f"{total:.0f} s in all.", ""])
