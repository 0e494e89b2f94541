"""Notes under the scores of a page: what is not measured yet, not valid, not answered, left out or replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.report.board import Board, Column
from harness.report.markdown import code, plain


def warnings(board: Board) -> list[str]:
    """What a reader of the first table must know."""
    texts = (pending_text(board), _few_valid(board, board.columns(primary=True)), _unanswered(board))
    return [text for text in texts if text]


def pending_text(board: Board) -> str:
    """Which rows are still to be measured on which benchmarks; "" if none is."""
    names: dict[str, set[str]] = {}
    for run in board.finished:
        if run.pending:
            names.setdefault(", ".join(run.pending), set()).add(run.method)
    cases = [f"{titles} of {', '.join(code(m) for m in sorted(rows))}" for titles, rows in sorted(names.items())]
    return f"**Not measured yet**: {'; '.join(cases)}. The same command goes on." if cases else ""


def _few_valid(board: Board, columns: Sequence[Column]) -> str:
    """A warning where fewer than half of what was asked could be used."""
    cases = [
        f"{column.title} of {code(method)} ({cell.n_valid} of {cell.n_total})"
        for method in board.methods
        for column in columns
        if (cell := board.cell(method, column)) and 2 * cell.n_valid < cell.n_total
    ]
    if not cases:
        return ""
    return f"**Fewer than half are valid**, so the score stands for a rest that chose itself: {'; '.join(cases)}."


def invalid_text(board: Board) -> str:
    """Which values of the primary metrics are not valid, counted by reason over seeds; "" if all are."""
    cases = []
    for method in board.methods:
        counts: dict[str, Counter[str]] = {}
        for run in board.runs_of(method):
            for result in run.benchmarks:
                for metric in result.metrics:
                    if metric.primary and metric.name in result.invalid:
                        counts.setdefault(metric.title, Counter()).update(result.invalid[metric.name])
        cases += [
            f"{title} of {code(method)}: "
            + ", ".join(f"{count} {plain(reason)}" for reason, count in sorted(reasons.items()))
            for title, reasons in counts.items()
        ]
    return f"**Not valid**, and in no mean: {'; '.join(cases)}." if cases else ""


def _unanswered(board: Board) -> str:
    """A warning where a judge left calls unanswered: they count as not valid until an answer comes."""
    cases = _counted(board, "unanswered")
    faults = sorted({b.fault for r in board.finished for b in r.benchmarks if b.fault})
    if not cases:
        return ""
    why = f" ({'; '.join(map(plain, faults))})" if faults else ""
    return f"**Calls without an answer of the judge**: {'; '.join(cases)}{why}. The same command asks them again."


def stripped_text(board: Board) -> str:
    """How many answers had thoughts, which were left out; "" if none had."""
    cases = _counted(board, "stripped")
    if not cases:
        return ""
    return (
        f"**Answers with thoughts**, which were left out before the rest was judged and measured (`thinking: strip`): "
        f"{'; '.join(cases)}."
    )


def replaced_text(board: Board) -> str:
    """How many characters of answers and of replies could not be stored; "" if all could."""
    cases = _counted(board, "replaced")
    if not cases:
        return ""
    where = "in answers or in the judge's replies"
    return f"**Characters that no file can hold**, replaced by U+FFFD {where}: {'; '.join(cases)}."


def _counted(board: Board, name: str) -> list[str]:
    """A field of the results that counts something, where it is not 0."""
    return [
        f"{count} of {code(r.method)} seed {r.seed} in {b.title}"
        for r in board.finished
        for b in r.benchmarks
        if (count := getattr(b, name))
    ]
