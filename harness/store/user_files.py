"""Reading rows that a user brings: JSON, JSONL, Parquet and CSV, with errors that name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.errors import UserError

Row = dict[str, Any]


def text(path: Path) -> str:
    """A file's text, unpacked if its name ends in ``.gz``.

    Raises:
        UserError: it is missing, not to be read, or not UTF-8.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: name a file in it") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}, is not UTF-8 (byte {error.start}): convert it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error})") from None


def numbered(path: Path, needed: Iterable[str] = ()) -> list[tuple[str, Row]]:
    """Objects of a JSON array, a JSONL file (lines end at ``\\n`` only: U+2028 may stand inside a string) or a Parquet
    file, each with where it stands (``line 3``).

    Raises:
        UserError: not that, no object, or an object without one of the ``needed`` keys.
    """
    keys = list(needed)
    if path.suffix == ".parquet":
        unit, found = _parquet(path)
    else:
        content = text(path)
        unit, found = _array(path, content) if content.lstrip()[:1] == "[" else _lines(path, content)
    for number, row in found:
        if not isinstance(row, dict):
            raise UserError(f"{path}, {unit} {number}: an object is expected, not {type(row).__name__}")
        missing = [k for k in keys if k not in row]
        if missing:
            raise UserError(f"{path}, {unit} {number}: the key {missing[0]!r} is missing")
    return [(f"{unit} {number}", row) for number, row in found]


def rows(path: Path, needed: Iterable[str] = ()) -> list[Row]:
    """The objects alone of :func:`numbered`."""
    return [row for _, row in numbered(path, needed)]


def _array(path: Path, content: str) -> tuple[str, list[tuple[int, Any]]]:
    try:
        return "item", list(enumerate(json.loads(content), 1))
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}{line}: {_reason(error)}; a JSON array is expected") from None


def _lines(path: Path, content: str) -> tuple[str, list[tuple[int, Any]]]:
    found = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {_reason(error)}; one JSON object a line is expected") from None
    return "line", found


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(getattr(error, "msg", error))


def _parquet(path: Path) -> tuple[str, list[tuple[int, Any]]]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        content = parquet.read_table(path)
        try:
            return "row", list(enumerate(content.to_pylist(), 1))
        except UnicodeDecodeError:
            for number in range(1, content.num_rows + 1):
                content.slice(number - 1, 1).to_pylist()
            raise
    except FileNotFoundError:
        raise UserError(f"There is no file {path}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}, row {number}, is not UTF-8: convert it") from None
    except (OSError, ArrowException) as error:
        raise UserError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]})") from None


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


class Malformed(ValueError):  # noqa: N818 - a finding about a row
    """A row that is not what its layout says. The message ends a sentence that begins with file and line."""


_HALVES = re.compile("[\ud800-\udfff]")

HALF = "half of a surrogate pair (\\ud800 to \\udfff): repair the escape"


def halved(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which no tokenizer takes."""
    return _HALVES.search(text) is not None
