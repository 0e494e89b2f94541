"""What a run of the comparisons leaves: a JSON file, and a markdown table that marks what moved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.speed.machine import Limits
from tests.speed.measure import Ratio

MOVED = 0.05
"""Relative change of a ratio that is marked."""


@dataclass(frozen=True)
class Outcome:
    """What became of a comparison: ``ok``, ``skipped``, ``failed`` or ``out of time``; and why."""

    comparison: str
    status: str
    seconds: float
    ratios: tuple[Ratio, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Record:
    """A run.

    Attributes:
        machine: its name.
        command: that made the record.
        environment: hardware, software, threads.
        limits: of the machine, before the comparisons and after them.
        outcomes: one a comparison.
    """

    machine: str
    command: str
    environment: Mapping[str, Any]
    limits: Sequence[Limits]
    outcomes: Sequence[Outcome]

    def ratios(self) -> dict[str, Ratio]:
        """All ratios by name."""
        return {ratio.name: ratio for outcome in self.outcomes for ratio in outcome.ratios}

    def dump(self) -> dict[str, Any]:
        """JSON form."""
        outcomes = [
            {
                "comparison": outcome.comparison,
                "status": outcome.status,
                "seconds": round(outcome.seconds, 1),
                "reason": outcome.reason,
                "ratios": [ratio._asdict() for ratio in outcome.ratios],
            }
            for outcome in self.outcomes
        ]
        return {
            "machine": self.machine,
            "command": self.command,
            "environment": dict(self.environment),
            "limits": [limits._asdict() for limits in self.limits],
            "comparisons": outcomes,
        }


def load_record(value: Mapping[str, Any]) -> Record:
    """A record from its JSON form."""
    outcomes = [
        Outcome(**row | {"ratios": tuple(Ratio(**ratio) for ratio in row["ratios"])}) for row in value["comparisons"]
    ]
    limits = [Limits(**each) for each in value["limits"]]
    return Record(value["machine"], value["command"], value["environment"], limits, outcomes)


def write_record(folder: Path, name: str, record: Record) -> str:
    """Write ``NAME.json`` and, beside it, the page ``NAME.md``, which compares with the file that was there before.

    Args:
        folder: made if it is not there.
        name: of the files, without their endings.
        record: of the run.

    Returns:
        the page.
    """
    file = folder / f"{name}.json"
    before = load_record(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
    folder.mkdir(parents=True, exist_ok=True)
    page = table(record, before)
    file.write_text(json.dumps(record.dump(), indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(page, encoding="utf-8")
    return page


def change(before: Ratio | None, now: Ratio) -> str:
    """How a ratio moved; in bold if by more than :data:`MOVED`, with a note if the two intervals overlap.

    Args:
        before: in the earlier file; None if it is not in it.
        now: in this run.
    """
    if before is None:
        return "new"
    moved = now.ratio / before.ratio - 1
    text = f"{100 * moved:+.0f}%"
    if abs(moved) <= MOVED:
        return text
    return f"**{text}**" + (" (intervals overlap)" if _overlap(before, now) else "")


def _overlap(one: Ratio, two: Ratio) -> bool:
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return False
    return one.low <= two.high and two.low <= one.high


def table(record: Record, before: Record | None) -> str:
    """The page.

    Args:
        record: of this run.
        before: of the earlier run on the same machine, if there was one.
    """
    environment, old = record.environment, {} if before is None else before.ratios()
    cores, threads = environment["cores"], environment["threads"]
    lines = [f"# Speed on {record.machine}", ""]
    lines += [f"Written by `{record.command}`; what each line compares: [docs/speed.md](../../docs/speed.md).", ""]
    lines += [f"* {cores} cores, {threads} threads, device {environment['device']}"]
    lines += [f"* {', '.join(f'{name} {version}' for name, version in environment['libraries'].items())}"]
    for when, limits in zip(("before", "after"), record.limits, strict=False):
        gemm, copy = _number(limits.gemm / 1e9), _number(limits.copy / 1e9)
        lines.append(f"* {when} the comparisons: {gemm} GFLOP/s in float32 products, {copy} GB/s copied")
    if before is not None and before.environment["threads"] != threads:
        lines.append(f"* the earlier run had {before.environment['threads']} threads: the changes say little")
    lines += ["", "| comparison | ours | other side | unit | ratio [95%] | repeats | change |", "|" + " --- |" * 7]
    for outcome in record.outcomes:
        if outcome.status != "ok":
            lines.append(f"| {outcome.comparison} | | | | **{outcome.status}**: {_cell(outcome.reason)} | | |")
        for ratio in outcome.ratios:
            moved = change(old.get(ratio.name), ratio) if before is not None else ""
            values = f"{_number(ratio.ours)} | {_number(ratio.theirs)} | {ratio.unit} | {_interval(ratio)}"
            lines.append(f"| {ratio.name} | {values} | {ratio.repeats} | {moved} |")
    absent = [name for name in old if name not in record.ratios()]
    if absent:
        lines += ["", f"In the earlier file only: {', '.join(absent)}."]
    seconds = sum(outcome.seconds for outcome in record.outcomes)
    return "\n".join([*lines, "", f"{seconds:.0f} s in all.", ""])


def _interval(ratio: Ratio) -> str:
    ends = "" if ratio.low is None or ratio.high is None else f" [{_number(ratio.low)}, {_number(ratio.high)}]"
    return _number(ratio.ratio) + ends


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
