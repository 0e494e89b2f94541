"""Where the spending went, by phase, and what was predicted of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.budget.ledger import AXES, FLOPS
from harness.report.board import Board
from harness.report.html.scores import AXIS_TITLES
from harness.report.html.stored import Stored
from harness.report.spent import mean_spent, spent_on, unit_of_time
from harness.score.results import RunResult

PHASES = {
    "data": "stored pairs",
    "setup": "loading",
    "train": "training",
    "reference": "reference",
    "generate": "sampling",
    "oracle": "labels",
    "eval": "evaluation",
    "judge": "judge",
    "search": "search",
}
QUANTITIES = {"flops": "FLOPs", "seconds": "seconds", "generated": "tokens sampled", "calls": "labels and verdicts"}


def phases_json(board: Board) -> dict[str, Any]:
    """What each method spent in each phase, the mean over its seeds; the search is one phase."""
    rows: list[dict[str, Any]] = []
    for method in board.methods:
        runs = board.runs_of(method)
        for phase, title in PHASES.items():
            spent = [_spent_in(run, phase) for run in runs]
            mean = {name: float(np.mean([s[name] for s in spent])) for name in QUANTITIES}
            if any(mean.values()):
                rows.append({"method": method, "phase": title} | mean)
    unit = unit_of_time(max((row["seconds"] for row in rows), default=0.0))
    for row in rows:
        row["seconds"] /= unit.seconds
    titles = QUANTITIES | {"seconds": unit.name}
    quantities = [{"id": q, "title": title} for q, title in titles.items() if any(row[q] for row in rows)]
    return {"phases": list(PHASES.values()), "quantities": quantities, "rows": rows}


def _spent_in(run: RunResult, phase: str) -> dict[str, float]:
    if phase == "search":
        phases = [row for name, row in run.tuning_ledger.get("phases", {}).items() if name not in ("data", "wall")]
    else:
        phases = [run.ledger.get("phases", {}).get(phase, {})]
    return {
        "flops": _total(phases, *FLOPS),
        "seconds": _total(phases, "seconds"),
        "generated": _total(phases, "generated"),
        "calls": _total(phases, "calls"),
    }


def _total(phases: list[Mapping[str, float]], *quantities: str) -> float:
    return float(sum(row.get(quantity, 0) for row in phases for quantity in quantities))


def predictions_json(board: Board, stored: Stored) -> list[dict[str, Any]]:
    """What training was predicted to spend and what it spent, the mean over seeds, on each axis that was predicted."""
    rows: list[dict[str, Any]] = []
    longest = unit_of_time(max((mean_spent(board.runs_of(m), "seconds") for m in board.methods), default=0.0))
    for method in board.methods:
        runs = [(run, stored.predicted(run)) for run in board.runs_of(method)]
        for axis in AXES:
            both = [(predicted[axis], spent_on(run, axis)) for run, predicted in runs if axis in predicted]
            if both and any(spent for _, spent in both):
                predicted, spent = (float(np.mean(values)) for values in zip(*both, strict=True))
                title, size = AXIS_TITLES[axis], 1.0
                if axis == "seconds":
                    title, size = f"training {longest.name}", longest.seconds
                rows.append({"method": method, "axis": title, "predicted": predicted / size, "spent": spent / size})
    return rows
