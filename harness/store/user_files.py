"""Reading a user's files: JSON, JSONL, Parquet, CSV and TSV, with errors that name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.store.json_files import Row


class LocatedRow(NamedTuple):
    """A row and its place in the file, in words for an error (``line 3``)."""

    place: str
    row: Row


class _Numbered(NamedTuple):
    """Values of a file with their numbers; ``unit`` says what the numbers count (``line``, ``item``, ``row``)."""

    unit: str
    values: list[tuple[int, Any]]


def read_text_file(path: Path) -> str:
    """A file's text, unpacked if its name ends in ``.gz`` or ``.zst``.

    Raises:
        UserError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        elif path.suffix == ".zst":
            content = _unpack_zstandard(content)
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


def _unpack_zstandard(content: bytes) -> bytes:
    import pyarrow

    with pyarrow.input_stream(pyarrow.py_buffer(content), compression="zstd") as stream:
        unpacked: bytes = stream.read()
    return unpacked


def is_csv(path: Path) -> bool:
    """Whether a file is CSV or TSV by its name, packed or not."""
    return kind_of(path) in (".csv", ".tsv")


def kind_of(path: Path) -> str:
    """The ending of a file's name in lower case, without that of its packing."""
    name = Path(path.stem) if path.suffix in (".gz", ".zst") else path
    return name.suffix.lower()


def read_located_rows(path: Path, required_keys: Iterable[str] = ()) -> list[LocatedRow]:
    """The objects of a JSON array, a JSONL file (lines end at ``\\n`` only: U+2028 may stand inside a string), a
    Parquet file, or a CSV or TSV file with a header (all values are strings), each with its place.

    Raises:
        UserError: the file is none of these, or holds something else than objects, or an object lacks a required key.
    """
    keys = list(required_keys)
    if path.suffix == ".parquet":
        unit, numbered = _parse_parquet(path)
    elif is_csv(path):
        unit, numbered = _parse_csv(path)
    else:
        text = read_text_file(path)
        unit, numbered = _parse_array(path, text) if text.lstrip()[:1] == "[" else _parse_lines(path, text)
    for number, row in numbered:
        if not isinstance(row, dict):
            raise UserError(f"{path}, {unit} {number}: an object is expected, not {type(row).__name__}")
        missing = [k for k in keys if k not in row]
        if missing:
            raise UserError(f"{path}, {unit} {number}: the key {missing[0]!r} is missing")
    return [LocatedRow(f"{unit} {number}", row) for number, row in numbered]


def read_user_rows(path: Path, required_keys: Iterable[str] = ()) -> list[Row]:
    """The rows of :func:`read_located_rows` without their places."""
    return [row for _, row in read_located_rows(path, required_keys)]


def _parse_array(path: Path, text: str) -> _Numbered:
    try:
        return _Numbered("item", list(enumerate(json.loads(text), 1)))
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}{line}: {_reason(error)}; a JSON array is expected") from None


def _parse_lines(path: Path, text: str) -> _Numbered:
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {_reason(error)}; one JSON object a line is expected") from None
    return _Numbered("line", values)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(getattr(error, "msg", error))


def _parse_parquet(path: Path) -> _Numbered:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        table = parquet.read_table(path)
        try:
            return _Numbered("row", list(enumerate(table.to_pylist(), 1)))
        except UnicodeDecodeError:
            for number in range(1, table.num_rows + 1):  # row by row, so that ``number`` stops at the bad one
                table.slice(number - 1, 1).to_pylist()
            raise
    except FileNotFoundError:
        raise UserError(f"There is no file {path}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}, row {number}, is not UTF-8: convert it") from None
    except (OSError, ArrowException) as error:
        raise UserError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]})") from None


def _parse_csv(path: Path) -> _Numbered:
    """Records of CSV or TSV under the number of their first line; a quoted text may hold line breaks."""
    csv.field_size_limit(2**31 - 1)
    separator = "," if kind_of(path) == ".csv" else "\t"
    reader = csv.reader(io.StringIO(read_text_file(path), newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    values, line = [], 1
    try:
        for record in reader:
            if header is None:
                header = _checked_header(path, record, separator)
            elif record and len(record) != len(header):
                raise UserError(
                    f"{path}, line {line}: {len(record)} values under a header of {len(header)}: put texts in quotes"
                )
            elif record:
                values.append((line, dict(zip(header, record, strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: {error}; put quotes around texts and double those in them") from None
    return _Numbered("line", values)


def _checked_header(path: Path, header: list[str], separator: str) -> list[str]:
    repeated = [name for i, name in enumerate(header) if name in header[:i]]
    if repeated:
        raise UserError(f"{path}, line 1: the header names {repeated[0]!r} twice: rename one")
    if len(header) < 2:
        name = "a comma" if separator == "," else "a tab"
        raise UserError(
            f"{path}, line 1: the header has one column, {header[0] if header else ''!r}: separate by {name}"
        )
    return header


def read_csv_rows(path: Path, required_columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a CSV file with a header.

    Raises:
        UserError: the file cannot be read, or a required column is missing.
    """
    reader = csv.DictReader(io.StringIO(read_text_file(path), newline=""))
    missing = [k for k in required_columns if k not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{path}: the column {missing[0]!r} is missing")
    return list(reader)


def first_existing(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists in ``folder``."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


class Malformed(ValueError):  # noqa: N818 - a finding about a row
    """A row that breaks its layout. The message ends a sentence that begins with file and line."""


_SURROGATES = re.compile("[\ud800-\udfff]")

LONE_SURROGATE = "half of a surrogate pair (\\ud800 to \\udfff): repair the escape"
"""End of a sentence about a text with :func:`has_lone_surrogate`."""


def has_lone_surrogate(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which no tokenizer accepts."""
    return _SURROGATES.search(text) is not None
