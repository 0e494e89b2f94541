"""The files of figures, beside a page and for papers, and whether they are those of the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from math import isclose
from pathlib import Path
from typing import Any

from harness.report.board import Board
from harness.report.drawing import FORMATS, page_picture, pictures_of
from harness.report.figure_types import Figure, figure_key, record
from harness.report.figures import CostAxis, figures_of
from harness.report.paper_table import csv_table, latex_table
from harness.store.json_files import json_text, write_bytes, write_text

TABLES = {"scores.csv": csv_table, "scores.tex": latex_table}


SEAL = "<!-- sha256 "


def page_file(figure: Figure | str) -> str:
    """Name of a figure's file beside a page; the argument is a figure or its name."""
    return f"{figure if isinstance(figure, str) else figure.name}.svg"


def stale_pictures(figures: Sequence[Figure], folder: Path) -> list[str]:
    """Names of the pictures beside a page that are not there or were made from other numbers. Needs no matplotlib.

    Args:
        figures: those of the results.
        folder: of the page.
    """
    paths = {page_file(figure): (figure, folder / page_file(figure)) for figure in figures}
    return [name for name, (figure, path) in paths.items() if not (_is_of(figure, path) and _is_whole(path))]


def write_pictures(figures: Sequence[Figure], folder: Path) -> list[str]:
    """Draw the pictures beside a page whose numbers have changed; the arguments are those of :func:`stale_pictures`.

    Returns:
        names of all pictures.
    """
    stale = stale_pictures(figures, folder)
    for figure in figures:
        if page_file(figure) in stale:
            write_text(folder / page_file(figure), _sealed(page_picture(figure)))
    return [page_file(figure) for figure in figures]


def _is_of(figure: Figure, path: Path) -> bool:
    """Whether a picture is there and was made from a figure's numbers."""
    return path.is_file() and figure_key(figure).encode() in path.read_bytes()


def _sealed(svg: str) -> str:
    """A picture with a hash of itself behind it."""
    return svg + _seal(svg.encode())


def _seal(svg: bytes) -> str:
    return f"{SEAL}{hashlib.sha256(svg).hexdigest()} -->\n"


def _is_whole(path: Path) -> bool:
    """Whether a picture beside a page is as it was written; one of an earlier version has no hash, but an end."""
    content = path.read_bytes()
    before, mark, _ = content.rpartition(SEAL.encode())
    if not mark:
        return content.rstrip().endswith(b"</svg>")
    return content == before + _seal(before).encode()


def write_figures(board: Board, folder: Path, cost: CostAxis | None = None) -> list[Path]:
    """Write every figure as JSON, SVG, PNG and PDF, and the table of scores as CSV and LaTeX.

    Args:
        board: all results of a page.
        folder: it appears.
        cost: axis of the chart of score against cost; the one that tells the methods apart if None.

    Returns:
        the files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in figures_of(board, cost):
        for form, content in pictures_of(figure).items():
            path = folder / f"{figure.name}.{form}"
            write_bytes(path, content)
            written.append(path)
        written.append(folder / f"{figure.name}.json")
        write_text(written[-1], json_text(record(figure), indent=1) + "\n")
    for name, table in TABLES.items():
        written.append(folder / name)
        write_text(written[-1], table(board))
    return written


def stale_figures(board: Board, folder: Path, cost: CostAxis | None = None) -> list[str]:
    """A sentence for each file that is not that of the results. Needs no matplotlib.

    Numbers are compared, not pictures: the JSON with the results, and with each picture the hash that it carries.

    Args:
        board: all results of a page.
        folder: where they lie.
        cost: as :func:`write_figures` got it.
    """
    stale = []
    for figure in figures_of(board, cost):
        stale += _stale_numbers(figure, folder / f"{figure.name}.json")
        for form in FORMATS:
            path = folder / f"{figure.name}.{form}"
            if not path.is_file():
                stale.append(f"{path} is not there")
            elif not _is_of(figure, path):
                stale.append(f"{path} was made from other numbers")
    for name, table in TABLES.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != table(board):
            stale.append(f"{path} differs from the results")
    return stale


def _stale_numbers(figure: Figure, path: Path) -> list[str]:
    """The sentence on the JSON of a figure, if it holds other numbers."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [f"{path} cannot be read"]
    key = _first_difference(stored, json.loads(json_text(record(figure))))
    return [f"{path}: {key} differs from the results"] if key is not None else []


def _first_difference(stored: Any, right: Any, key: str = "") -> str | None:
    """Key of the first value in which two JSON values differ; numbers may differ in the seventh digit.

    Args:
        stored: one of them.
        right: the other.
        key: where they stand.
    """
    if isinstance(stored, dict) and isinstance(right, dict) and stored.keys() == right.keys():
        parts = ((_first_difference(stored[name], right[name], f"{key}.{name}".lstrip("."))) for name in right)
        return next((part for part in parts if part is not None), None)
    if isinstance(stored, list) and isinstance(right, list) and len(stored) == len(right):
        items = enumerate(zip(stored, right, strict=True))
        return next((k for i, (a, b) in items if (k := _first_difference(a, b, f"{key}[{i}]")) is not None), None)
    if isinstance(stored, float | int) and isinstance(right, float | int):
        return None if isclose(stored, right, rel_tol=1e-6, abs_tol=1e-9) else key
    return None if stored == right else key or "the file"
