"""The table of scores for papers: CSV with plain numbers, and LaTeX for the package booktabs."""

from __future__ import annotations

import csv
import io
import re
from math import isfinite

from harness.report.board import Board, Column
from harness.report.spent import mean_spent
from harness.report.text import format_number
from harness.store.foreign_text import one_line

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "−": "$-$", "×": r"$\times$", "\ufffd": "?",
}  # fmt: skip


def latex_text(text: object) -> str:
    """Text that LaTeX sets as it is, on one line."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def csv_text(text: object) -> str:
    """Text for a cell of a CSV file, on one line. An apostrophe stands before what a spreadsheet would compute."""
    line = one_line(text)
    return f"'{line}" if re.match(r"[=+\-@]", line) else line


def csv_table(board: Board) -> str:
    """A line for each method: every primary score with the ends of its interval, and what the method spent."""
    columns = board.columns(primary=True)
    names = _unique_names(columns)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{name}{part}" for name in names for part in ("", "_low", "_high")]
    writer.writerow(["method", "seeds", *map(csv_text, ends), "flops", "hours"])
    for method in board.methods:
        cells = [board.cell(method, column) for column in columns]
        numbers = [
            "" if cell is None or not isfinite(number) else f"{number:.6g}"
            for cell in cells
            for number in ((cell.interval.value, cell.interval.low, cell.interval.high) if cell else (0.0,) * 3)
        ]
        runs = board.runs_of(method)
        costs = [f"{mean_spent(runs, axis) / unit:.6g}" for axis, unit in (("flops", 1), ("seconds", 3600))]
        writer.writerow([csv_text(method), len(runs), *numbers, *costs])
    return out.getvalue()


def _unique_names(columns: list[Column]) -> list[str]:
    """``benchmark.metric``, with the protocol where two columns have that name."""
    names = [f"{c.benchmark}.{c.metric.name}" for c in columns]
    return [
        f"{name}@{column.protocol_hash}" if names.count(name) > 1 else name
        for name, column in zip(names, columns, strict=True)
    ]


def latex_table(board: Board) -> str:
    """A ``tabular`` for booktabs: values with intervals in small print, ``+`` or ``-`` where a difference to the
    reference is shown."""
    columns = board.columns(primary=True)
    against = board.reference if board.reference in board.methods else "start"
    families = [board.comparisons_with(against, column) for column in columns]
    lines = [
        f"% Raised + or -: better or worse than {latex_text(against)} on the same prompts (Holm, 5%). 95% intervals.",
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        " & ".join(["method", *(latex_text(f"{c.title}, {c.metric.unit}") for c in columns)]) + r" \\",
        r"\midrule",
    ]
    for method in board.methods:
        cells = []
        for column, family in zip(columns, families, strict=True):
            sign = {"better": "$^{+}$", "worse": "$^{-}$"}.get(family[method].verdict if method in family else "", "")
            cells.append(_latex_cell(board, method, column) + sign)
        lines.append(" & ".join([latex_text(method), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_cell(board: Board, method: str, column: Column) -> str:
    cell = board.cell(method, column)
    if cell is None or not cell.interval.has_value:
        return "n/a"
    unit, interval = column.metric.unit, cell.interval
    value = latex_text(format_number(interval.value, unit))
    if not interval.error or not isfinite(interval.error):
        return value
    low, high = (latex_text(format_number(end, unit)) for end in (interval.low, interval.high))
    return rf"{value} {{\scriptsize [{low}, {high}]}}"
