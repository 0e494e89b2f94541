"""Reading a user's files: JSON, JSONL, Parquet, CSV and TSV, with errors that name the file and the line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from harness.errors import UserError
from harness.store.json_files import Row


class LocatedRow(NamedTuple):
    """A row and its place in the file, in words for an error (``line 3``)."""

    place: str
    row: Row


class _Numbered(NamedTuple):
    """Values of a file with their numbers; ``unit`` says what the numbers count (``line``, ``item``, ``row``)."""

    unit: str
    values: Iterator[tuple[int, Any]]


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


def iterate_rows(path: Path, required_keys: Iterable[str] = ()) -> Iterator[LocatedRow]:
    """The objects of a JSON array, a JSONL file (lines end at ``\\n`` only: U+2028 may stand inside a string), a
    Parquet file, or a CSV or TSV file with a header (all values are strings), each with its place. But for an array,
    the file is read as the rows are taken.

    Raises:
        UserError: the file is none of these, or holds something else than objects, or an object lacks a required key.
    """
    keys = list(required_keys)
    unit, numbered = _numbered(path)
    for number, row in numbered:
        if not isinstance(row, dict):
            raise UserError(f"{path}, {unit} {number}: an object is expected, not {type(row).__name__}")
        missing = next((k for k in keys if k not in row), None)
        if missing is not None:
            raise UserError(f"{path}, {unit} {number}: the key {missing!r} is missing")
        yield LocatedRow(f"{unit} {number}", row)


def read_located_rows(path: Path, required_keys: Iterable[str] = ()) -> list[LocatedRow]:
    """All rows of :func:`iterate_rows`."""
    return list(iterate_rows(path, required_keys))


def read_user_rows(path: Path, required_keys: Iterable[str] = ()) -> list[Row]:
    """The rows of :func:`read_located_rows` without their places."""
    return [row for _, row in read_located_rows(path, required_keys)]


def _numbered(path: Path) -> _Numbered:
    if path.suffix == ".parquet":
        return _Numbered("row", _parse_parquet(path))
    if is_csv(path):
        return _Numbered("line", _parse_csv(path))
    first = next((line for line in _lines(path) if line.strip()), b"").removeprefix(codecs.BOM_UTF8)
    if first.lstrip()[:1] == b"[":
        return _Numbered("item", _parse_array(path))
    return _Numbered("line", _parse_lines(path))


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, unpacked."""
    try:
        with _unpacked(path) as handle:
            yield from handle
    except (OSError, EOFError, zlib.error):
        read_text_file(path)  # says what is wrong
        raise


def _unpacked(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _parse_array(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        values = json.loads(read_text_file(path))
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}{line}: {_reason(error)} (the file is to hold a JSON array)") from None
    yield from enumerate(values, 1)


def _parse_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(path), 1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not content.strip():
            continue
        try:
            yield number, json.loads(content.decode())
        except UnicodeDecodeError:
            read_text_file(path)  # says where
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {_reason(error)} (each line is to hold one JSON object)") from None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(getattr(error, "msg", error))


BATCH = 256
"""Rows of a Parquet file that are in memory at a time."""


def _parse_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(BATCH):
            try:
                rows = batch.to_pylist()
            except UnicodeDecodeError:
                for row in range(batch.num_rows):  # row by row, so that ``number`` stops at the bad one
                    number += 1
                    batch.slice(row, 1).to_pylist()
                raise
            for row in rows:
                number += 1
                yield number, row
    except FileNotFoundError:
        raise UserError(f"There is no file {path}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}, row {number}, is not UTF-8: convert it") from None
    except (OSError, ArrowException) as error:
        raise UserError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]})") from None


def _parse_csv(path: Path) -> Iterator[tuple[int, Any]]:
    """Records of CSV or TSV under the number of their first line; a quoted text may hold line breaks."""
    csv.field_size_limit(2**31 - 1)
    separator = "," if kind_of(path) == ".csv" else "\t"
    header: list[str] | None = None
    line = 1
    try:
        with _unpacked(path) as handle, io.TextIOWrapper(handle, "utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=separator, strict=True)
            for record in reader:
                if header is None:
                    header = _checked_header(path, record, separator)
                elif record and len(record) != len(header):
                    raise UserError(
                        f"{path}, line {line}: {len(record)} values under a header of {len(header)}: put texts in "
                        "quotes"
                    )
                elif record:
                    yield line, dict(zip(header, record, strict=True))
                line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: {error}; put quotes around texts and double those in them") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        read_text_file(path)  # says what is wrong
        raise


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
