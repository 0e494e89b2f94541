"""Reading files of official tools: typed rows, files that hold rows, which of repeated rows counts, no mixtures.

A layout is a :class:`FileRow` whose fields have the types of this module. :func:`read_typed_rows` reads a file of such
rows; a row that breaks its layout is an error with file, line and key. A field that the official tool lets be missing
is optional (``Number | None = None``), and whoever reads it counts it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import ErrorDetails

from harness.benchmark import Row
from harness.errors import UserError
from harness.store import user_files

_HALF_PAIRS = re.compile("[\ud800-\udfff]")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is expected")
    return _HALF_PAIRS.sub("\ufffd", value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number is expected")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number that a float can hold is expected") from None


def _whole_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_number(value)):
        raise ValueError("a whole number is expected")
    if value != int(value):
        raise ValueError("a whole number is expected")
    return int(value)


def _identifier(value: Any) -> int | str:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"0|[1-9]\d{0,17}", value, re.ASCII) else _text(value)
    try:
        return _whole_number(value)
    except ValueError:
        raise ValueError("a whole number or a text is expected") from None


Text = Annotated[str, PlainValidator(_text)]
"""A string; U+FFFD stands for each half of a surrogate pair, which no output can hold."""

Number = Annotated[float, PlainValidator(_number)]
"""An integer or a float, not a truth value. It may be NaN or infinite: JSON files of Python hold both."""

WholeNumber = Annotated[int, PlainValidator(_whole_number)]
"""An integer; ``1.0`` is one, a truth value is none."""

Identifier = Annotated[int | str, PlainValidator(_identifier)]
"""A question's id: a whole number (``"81"`` is 81) or another text as it is."""


class FileRow(BaseModel):
    """Base of the layouts of rows. Keys that a layout does not name are left out."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


R = TypeVar("R", bound=FileRow)


class TypedRow(NamedTuple, Generic[R]):
    """A row that has its layout, and its place in the file, in words for an error (``line 3``)."""

    place: str
    row: R


def read_typed_rows(path: Path, layout: type[R]) -> list[TypedRow[R]]:
    """Rows of a file that holds at least one, each of the same layout.

    Raises:
        UserError: the file is missing, broken or empty, or a row breaks the layout; file, line and key are named.
    """
    rows = user_files.read_located_rows(path)
    if not rows:
        raise UserError(f"{path} holds no rows: name a file that is not empty")
    return [TypedRow(place, typed_row(row, layout, f"{path}, {place}")) for place, row in rows]


def typed_row(row: Row, layout: type[R], place: str) -> R:
    """A row of the layout.

    Args:
        row: JSON object.
        layout: of the row.
        place: file and line, for the error.

    Raises:
        UserError: it breaks the layout.
    """
    try:
        return layout.model_validate({name: row[name] for name in layout.model_fields if name in row})
    except ValidationError as error:
        raise UserError(f"{place}: {_layout_problem(error.errors(include_url=False)[0])}") from None


_EXPECTED = {
    "list_type": "a list is expected",
    "model_type": "an object is expected",
    "model_attributes_type": "an object is expected",
}


def _layout_problem(error: ErrorDetails) -> str:
    """What is wrong with a key, as the end of a sentence."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] == "missing":
        return f"the key {key!r} is missing"
    message = _EXPECTED.get(error["type"], error["msg"].removeprefix("Value error, "))
    return f"the key {key!r} holds {_excerpt(error['input'])}: {message[:1].lower()}{message[1:]}"


def _excerpt(value: Any) -> str:
    try:
        text = json.dumps(value, default=repr)
    except RecursionError:
        return "a value that is nested too deeply"
    return text if len(text) <= 40 else f"{text[:37]}..."


T = TypeVar("T")


class CountedRows(NamedTuple, Generic[T]):
    """Which rows count.

    Attributes:
        counted: the first valid row of each key; the first row where none is valid.
        replaced: failed rows before a valid one of the same key, which is their re-run.
        repeats: all other rows whose key is taken.
    """

    counted: list[T]
    replaced: list[T]
    repeats: list[T]


def first_valid_rows(rows: Iterable[T], key: Callable[[T], Hashable], is_valid: Callable[[T], bool]) -> CountedRows[T]:
    """The first valid row of each key.

    Args:
        rows: in the order of the file.
        key: what a row is about; rows with the same key repeat each other.
        is_valid: whether a row has a verdict.
    """
    by_key: dict[Hashable, list[T]] = {}
    for row in rows:
        by_key.setdefault(key(row), []).append(row)
    result = CountedRows[T]([], [], [])
    for same in by_key.values():
        place = next((i for i, row in enumerate(same) if is_valid(row)), 0)
        result.counted.append(same[place])
        result.replaced.extend(same[:place])
        result.repeats.extend(same[place + 1 :])
    return result


def nonempty_rows(path: Path, needed: Sequence[str] = ()) -> list[Row]:
    """Rows of a file that holds at least one, each with the ``needed`` keys.

    Raises:
        UserError: it is missing, broken or empty.
    """
    rows = user_files.read_user_rows(path, needed)
    if not rows:
        raise UserError(f"{path} holds no rows: name a file that is not empty")
    return rows


def refuse_mixture(subject: str, kind: str, names: Iterable[str]) -> None:
    """Check that all rows share one name.

    Args:
        subject: subject and verb of the error sentence, such as ``annotations.json mixes``.
        kind: what the names are, in the plural.
        names: of all rows; repeats do not count.

    Raises:
        UserError: there are several.
    """
    distinct = sorted(set(names))
    if len(distinct) > 1:
        raise UserError(f"{subject} {kind} ({', '.join(distinct)}): score each by itself")
