"""The sentences at the top of the page. Names stand between backquotes."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.board import Board
from harness.report.text import format_number
from harness.score.verdicts import Verdict


def sentences(board: Board) -> list[str]:
    """What the headline score shows against the reference, and how small a difference it could have shown."""
    column = next((c for c in board.columns(primary=True) if c.metric.better), None)
    if column is None or board.reference not in board.methods:
        return []
    title, unit = column.title, column.metric.unit
    by_verdict: dict[Verdict, list[str]] = {}
    for method, difference in board.comparisons_with(board.reference, column).items():
        by_verdict.setdefault(difference.verdict, []).append(method)
    lines = [
        f"{_names(by_verdict[verdict])}: {verdict} than `{board.reference}` in {title}."
        for verdict in (Verdict.BETTER, Verdict.WORSE)
        if verdict in by_verdict
    ]
    if Verdict.NO_DIFFERENCE in by_verdict:
        lines.append(
            f"No difference from `{board.reference}` is shown in {title} for "
            f"{_names(by_verdict[Verdict.NO_DIFFERENCE])}."
        )
    smallest = board.detectable(column, board.reference)
    if smallest is not None:
        lines.append(
            f"A difference of {format_number(smallest, unit)} {unit} would have been found four times in five."
        )
    seeds = max((len(board.runs_of(m)) for m in board.methods), default=0)
    if seeds == 1:
        lines.append("One training seed: another one may order the methods otherwise.")
    return lines


def _names(methods: Sequence[str]) -> str:
    return ", ".join(f"`{method}`" for method in methods)
