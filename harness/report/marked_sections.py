"""Sections of any Markdown file that are made from results: between ``<!-- sail-bench:NAME -->`` and
``<!-- /sail-bench -->``.

NAME is a folder of the results, ``RECIPE/BUDGET``, and says what of its page to show: ``RECIPE/BUDGET/verdict``,
``.../table`` (with its legend), ``.../chart``, or all three without a third part. Markers in code are left alone.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from harness.errors import UserError
from harness.report.board import Board
from harness.report.figure_files import page_file
from harness.report.figures import COST
from harness.report.main_table import legend, main_table
from harness.report.markdown import page
from harness.report.ranking import ranking_of
from harness.report.summary import summary_of
from harness.score.results import read_results
from harness.store.json_files import write_text

PARTS = ("verdict", "table", "chart")

_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_OPEN = re.compile(r"<!-- sail-bench:(\S+) -->")
_CLOSE = "<!-- /sail-bench -->"


def update_sections(file: Path, results: Path) -> bool:
    """Make the marked sections of a file anew.

    Args:
        file: a Markdown file.
        results: folder of the results.

    Returns:
        whether the file has changed.

    Raises:
        UserError: it has no section, or one that is not closed or names no results.
    """
    text = file.read_text(encoding="utf-8")
    new = with_sections(text, file, results)
    if new == text:
        return False
    write_text(file, new)
    return True


def has_sections(file: Path) -> bool:
    """Whether a file is there and has a marked section."""
    return file.is_file() and bool(_markers(file.read_text(encoding="utf-8")))


def with_sections(text: str, file: Path, results: Path) -> str:
    """A file's text with its marked sections made anew; the arguments are those of :func:`update_sections`."""
    markers = _markers(text)
    if not markers:
        raise UserError(
            f"{file} has no section to update: write the lines '<!-- sail-bench:RECIPE/BUDGET -->' and '{_CLOSE}' "
            "where one is to stand"
        )
    parts, done = [], 0
    for place, marker in enumerate(markers):
        until = markers[place + 1].start() if place + 1 < len(markers) else len(text)
        end = text.find(_CLOSE, marker.end(), until)
        line = text.count("\n", 0, marker.start()) + 1
        if end < 0:
            raise UserError(f"{file}, line {line}: the section {marker[1]} is not closed: add the line '{_CLOSE}'")
        try:
            body = _section(marker[1], file.resolve().parent, results)
        except LookupError:
            names = ", ".join(_names(results)) or "those that a comparison writes"
            raise UserError(
                f"{file}, line {line}: there are no results {marker[1]} in {results}: name one of {names}, "
                f"with /{', /'.join(PARTS)} or nothing"
            ) from None
        parts += [text[done : marker.end()], "\n", body]
        done = end
    return "".join([*parts, text[done:]])


def _markers(text: str) -> list[re.Match[str]]:
    """Opening markers that are not in code."""
    code = [match.span() for match in _CODE.finditer(text)]
    return [m for m in _OPEN.finditer(text) if not any(low <= m.start() < high for low, high in code)]


def _names(results: Path) -> list[str]:
    return sorted({p.parent.parent.relative_to(results).as_posix() for p in results.glob("**/seed-*.json")})


def _section(name: str, beside: Path, results: Path) -> str:
    """What stands in a section; raises :class:`LookupError` for a name that there is not."""
    steps = name.split("/")
    parts = (steps.pop(),) if steps[-1] in PARTS else PARTS
    if not all(re.fullmatch(r"\w[\w.-]*", step) for step in steps):
        raise LookupError(name)
    folder = results.joinpath(*steps)
    if not any(folder.glob("*/seed-*.json")):
        raise LookupError(name)
    texts = _texts(folder.resolve())
    chart = Path(os.path.relpath(folder.resolve() / page_file(COST), beside)).as_posix()
    blocks = {
        "verdict": [texts["verdict"]],
        "table": [texts["table"], texts["legend"]],
        "chart": [f"![Score against cost]({chart})"],
    }
    return page([block for part in parts for block in blocks[part]])


def _texts(folder: Path) -> dict[str, str]:
    stamps = [(path, path.stat()) for path in sorted(folder.glob("*/seed-*.json"))]
    return _texts_of(folder, tuple((path, stamp.st_mtime_ns, stamp.st_size) for path, stamp in stamps))


@lru_cache(maxsize=16)
def _texts_of(folder: Path, stamps: tuple[tuple[Path, int, int], ...]) -> dict[str, str]:
    """The texts of a folder whose results have these stamps: several files may show the same page."""
    board = Board(read_results(folder))
    ranking = ranking_of(board)
    summary = summary_of(board, ranking)
    return {"verdict": summary.text, "table": main_table(board, ranking), "legend": legend(board, ranking)}
