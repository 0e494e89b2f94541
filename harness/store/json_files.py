"""JSON and JSON lines on disk: hashes of values and files, atomic writes, reads."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness.store.hosts import writer

Row = dict[str, Any]
"""One JSON object of a file of rows."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Storable(NamedTuple):
    """A text that every store takes, and how many characters had to be replaced for that."""

    text: str
    replaced: int


def storable(text: str) -> Storable:
    """The text with U+FFFD in place of NUL and of each half of a surrogate pair, which UTF-8 cannot write."""
    return Storable(*_UNSTORABLE.subn(REPLACEMENT, text))


def json_text(value: Any, **options: Any) -> str:
    """JSON that UTF-8 can write. Text stays readable, unless a string in it holds half of a surrogate pair: then all
    that is not ASCII is escaped.

    Args:
        value: what to write.
        options: keywords of :func:`json.dumps`.
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=True, **options)
    return text


def digest(value: Any) -> str:
    """sha256 (first 16 hex digits) of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_hash(*texts: str) -> int:
    """A hash of texts in 64 bits, the same in every process: for sets of so many that the texts would fill memory."""
    value = hashlib.blake2b(digest_size=8)
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        value.update(len(encoded).to_bytes(8, "little"))
        value.update(encoded)
    return int.from_bytes(value.digest(), "little")


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one, never half of one."""
    write_text(path, json_text(value, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8 with the line ends that it has.

    Raises:
        OSError: as :func:`write_bytes`.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old one or the new one.

    Raises:
        OSError: the file cannot be written; it is named, and nothing is left of the attempt.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{writer()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def read_json(path: Path) -> Any:
    """Parsed content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write JSON lines atomically."""
    write_text(path, "".join(json_text(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """Rows of a JSON lines file (lines end at newlines only: U+2028 may stand inside a string)."""
    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle if line.strip()]
