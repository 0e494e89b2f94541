"""Reading rows that a user brings: JSON, JSONL and CSV, with errors that name the file and the line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.errors import UserError

Row = dict[str, Any]


def text(path: Path) -> str:
    """A file's text.

    Raises:
        UserError: it is missing or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: name a file in it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): convert it") from None


def rows(path: Path, needed: Iterable[str] = ()) -> list[Row]:
    """Objects of a JSON array or of a JSONL file (lines end at ``\\n`` only: U+2028 may stand inside a string).

    Raises:
        UserError: no JSON, no object, or an object without one of the ``needed`` keys.
    """
    return [row for _, row in located(path, needed)]


def located(path: Path, needed: Iterable[str] = ()) -> list[tuple[str, Row]]:
    """The same, each with its place for an error: file, and line or item."""
    content, keys = text(path), list(needed)
    if content.lstrip().startswith("["):
        try:
            found = list(enumerate(json.loads(content), 1))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: {error.msg}; a JSON array is expected") from None
        unit = "item"
    else:
        found, unit = [], "line"
        for number, line in enumerate(content.split("\n"), 1):
            if not line.strip():
                continue
            try:
                found.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: {error.msg}; one JSON object a line is expected") from None
    for number, row in found:
        if not isinstance(row, dict):
            raise UserError(f"{path}, {unit} {number}: an object is expected, not {type(row).__name__}")
        missing = [k for k in keys if k not in row]
        if missing:
            raise UserError(f"{path}, {unit} {number}: the key {missing[0]!r} is missing")
    return [(f"{path}, {unit} {number}", row) for number, row in found]


def table(path: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a CSV file with a header.

    Raises:
        UserError: a needed column is missing.
    """
    reader = csv.DictReader(io.StringIO(text(path), newline=""))
    missing = [k for k in needed if k not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{path}: the column {missing[0]!r} is missing")
    return list(reader)


def first(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists in ``folder``."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
