"""Where a recipe's preference pairs come from: a file or folder of the user's, or a split of a data set of the Hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import AbsentError, UserError
from harness.pairs.row_labels import SCORE_COLUMNS
from harness.pairs.row_texts import reads_as_messages
from harness.store import hub
from harness.store.data_folders import folder_files, iterate_folder
from harness.store.json_files import Row, digest, file_digest
from harness.store.settings import settings
from harness.store.user_files import LocatedRow, is_csv, iterate_rows, kind_of

HUB_SPLIT = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40}):(?:(?P<config>[\w.-]+):)?(?P<split>[\w.-]+)"
)
"""``org/name@COMMIT:split``, with ``config:`` before the split if there is more than one."""

ROWS = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
"""Ends of the names of files with rows."""

HUB_FORM = "org/name@COMMIT:split"
"""How a split of the Hub is written, for errors."""

NUMBERS = (*(name for names in SCORE_COLUMNS for name in names), "better_response_id", "safer_response_id")
"""Columns of a CSV file that hold numbers."""


@dataclass(frozen=True)
class PairSource:
    """A file or folder (``path`` is set), or a split of the Hub at a commit. ``name`` is how the recipe writes it.

    ``split`` says which rows of a folder.
    """

    name: str
    path: Path | None = None
    split: str = ""

    def files(self) -> list[Path]:
        """The files that are read; none of the Hub's.

        Raises:
            UserError: a folder holds no rows, or several splits and none of them is named.
        """
        if self.path is None:
            return []
        return folder_files(self.path, self.split) if self.path.is_dir() else [self.path]

    def identity(self) -> dict[str, str]:
        """Identifies the content in keys and results, as JSON: a hash of the file (of a folder, of the hashes of its
        files), or the commit; never a path."""
        if self.path is None:
            return {"hub": self.name}
        digests = [file_digest(path) for path in self.files()]
        return {"sha256": digest(digests) if self.path.is_dir() else digests[0]}

    def rows(self) -> Iterator[LocatedRow]:
        """The rows with their places, read as they are taken.

        Raises:
            UserError: the source cannot be read.
        """
        if self.path is None:
            parts = HUB_SPLIT.fullmatch(self.name)
            assert parts is not None
            return hub.iterate_split(parts["name"], parts["commit"], parts["split"], parts["config"])
        rows = iterate_folder(self.path, self.split) if self.path.is_dir() else iterate_rows(self.path)
        if is_csv(self.files()[0]):
            return (LocatedRow(place, _typed(row)) for place, row in rows)
        return rows


def _typed(row: Row) -> Row:
    """A row of CSV, where all values are strings, with its numbers and JSON lists of messages read. An empty number or
    id is none."""
    return row | {key: _value(key, text) for key, text in row.items()}


def _value(key: str, text: str) -> Any:
    if key == "id" or key in NUMBERS:
        if not text.strip():
            return None
        try:
            return text if key == "id" else float(text)
        except ValueError:
            return text
    try:
        return json.loads(text) if reads_as_messages(text) else text
    except ValueError:
        return text


def locate_pair_source(key: str, name: str, folder: Path | None) -> PairSource:
    """The source that a recipe names.

    Args:
        key: the recipe's key under ``data`` (for errors).
        name: a file or folder, looked for under ``--data-dir``, then in ``folder``, then in the working directory; of a
            folder with several splits ``FOLDER:split``; or a split of the Hub (:data:`HUB_SPLIT`).
        folder: the recipe's folder, if it was read from a file.

    Raises:
        UserError: there is no such file or folder, or the Hub's split lacks a commit.
    """
    if HUB_SPLIT.fullmatch(name):
        return PairSource(name)
    data_dir = settings().data_dir
    places = [Path(place) for place in (data_dir, folder, ".") if place is not None]
    source = next(_existing(places, name), None)
    if source is not None:
        return source
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?(:[\w.:-]+)?", name) and ("@" in name or ":" in name):
        raise UserError(f"data.{key}: {name} needs a commit of 40 hex digits and a split: {HUB_FORM}")
    raise AbsentError(
        f"data.{key}: there is no file {name} under --data-dir, beside the recipe or here: {name_one(name)}"
    )


def name_one(name: str) -> str:
    """End of a sentence about a file that is not there.

    Args:
        name: as it was given; it may be that of a data set of the Hub.
    """
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and kind_of(Path(name)) not in ROWS:
        return f"name one, or a split of this data set of the Hub, at a commit: {name}@COMMIT:split"
    return "name one"


def _existing(places: list[Path], name: str) -> Iterator[PairSource]:
    """What a name stands for: a file in one of the places, else a folder, else a split of a folder."""
    paths = [_at(place, name) for place in places]
    yield from (PairSource(name, path) for path in paths if path.is_file())
    yield from (PairSource(name, path) for path in paths if path.is_dir())
    base, _, split = name.rpartition(":")
    if base and split:
        paths = [_at(place, base) for place in places]
        yield from (PairSource(name, path, split) for path in paths if path.is_dir())


def _at(place: Path, name: str) -> Path:
    """A path in a folder that may not be there yet, without ``..`` where that is the same file."""
    path = place / name
    plain = Path(os.path.normpath(path))
    return path if path.exists() and not (plain.exists() and plain.samefile(path)) else plain
