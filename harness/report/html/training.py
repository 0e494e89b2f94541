"""What training did: the logs of all runs as lines over steps."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.report.board import Board
from harness.score.results import RunResult


class Logged(NamedTuple):
    """A quantity of the training logs: its key there, its title and what it tells."""

    key: str
    title: str
    tells: str


LOGGED = (
    Logged(
        "rewards/chosen", "reward of chosen", "beta x log-ratio to the start policy; below 0: less likely than there"
    ),
    Logged("rewards/rejected", "reward of rejected", "the same of the rejected answer"),
    Logged("rewards/margins", "margin", "reward of chosen minus reward of rejected; 0 at the start"),
    Logged("rewards/accuracies", "accuracy", "share of pairs whose chosen answer has the higher reward"),
    Logged("logps/chosen", "log-probability of chosen", "summed over the answer's tokens"),
    Logged("logps/rejected", "log-probability of rejected", "summed over the answer's tokens"),
    Logged("generated/length", "length of sampled answers", "tokens; online methods only"),
    Logged("kl", "KL of sampled answers", "nats an answer to the start policy; online methods only"),
    Logged("entropy", "entropy", "nats a token; falling: the policy concentrates"),
    Logged("loss", "loss", "each method has its own, so compare shapes only"),
    Logged("grad_norm", "gradient norm", "before clipping"),
)
MOST_POINTS = 400
"""A longer log is thinned to so many points on the page."""


def training_json(board: Board) -> dict[str, Any]:
    """Lines of each quantity that at least one run logged."""
    lines = []
    for method in board.methods:
        for run in board.runs_of(method):
            lines += [line for quantity in LOGGED if (line := _line(run, quantity.key))]
    logged = {line["key"] for line in lines}
    return {"quantities": [q._asdict() for q in LOGGED if q.key in logged], "lines": lines}


def _line(run: RunResult, key: str) -> dict[str, Any] | None:
    rows = [(row["step"], row[key]) for row in run.train_log if key in row and "step" in row]
    every = -(-len(rows) // MOST_POINTS) or 1
    points = rows[::every] + ([rows[-1]] if rows and (len(rows) - 1) % every else [])
    return {"method": run.method, "seed": run.seed, "key": key, "points": points} if points else None


def last_quarter(run: RunResult, key: str) -> float | None:
    """Mean of a logged quantity over the last quarter of the steps that logged it; None where none did."""
    values = [row[key] for row in run.train_log if key in row]
    tail = values[-max(1, len(values) // 4) :]
    return sum(tail) / len(tail) if tail else None


def first_quarter(run: RunResult, key: str) -> float | None:
    """Mean over the first quarter; see :func:`last_quarter`."""
    values = [row[key] for row in run.train_log if key in row]
    head = values[: max(1, len(values) // 4)]
    return sum(head) / len(head) if head else None
