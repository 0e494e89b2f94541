"""Where a recipe's preference pairs come from: a file of the user's, or a split of a data set of the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import AbsentError, UserError
from harness.store import hub
from harness.store.json_files import file_digest
from harness.store.settings import settings
from harness.store.user_files import LocatedRow, read_located_rows

HUB_SPLIT = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40}):(?:(?P<config>[\w.-]+):)?(?P<split>[\w.-]+)"
)
"""``org/name@COMMIT:split``, with ``config:`` before the split if there is more than one."""


@dataclass(frozen=True)
class PairSource:
    """A file (``path`` is set), or a split of the Hub at a commit. ``name`` is how the recipe writes it."""

    name: str
    path: Path | None = None

    def identity(self) -> dict[str, str]:
        """Identifies the content in keys and results, as JSON: a hash of the file, or the commit; never a path."""
        if self.path is not None:
            return {"sha256": file_digest(self.path)}
        return {"hub": self.name}

    def read_rows(self) -> list[LocatedRow]:
        """All rows with their places.

        Raises:
            UserError: the source cannot be read.
        """
        if self.path is not None:
            return read_located_rows(self.path)
        parts = HUB_SPLIT.fullmatch(self.name)
        assert parts is not None
        return hub.read_split(parts["name"], parts["commit"], parts["split"], parts["config"])


def locate_pair_source(key: str, name: str, folder: Path | None) -> PairSource:
    """The source that a recipe names.

    Args:
        key: the recipe's key under ``data`` (for errors).
        name: a path, looked for under ``--data-dir``, then in ``folder``, then in the working directory; or a split of
            the Hub (:data:`HUB_SPLIT`).
        folder: the recipe's folder, if it was read from a file.

    Raises:
        UserError: there is no such file, or the Hub's split lacks a commit.
    """
    if HUB_SPLIT.fullmatch(name):
        return PairSource(name)
    data_dir = settings().data_dir
    candidates = [Path(place) / name for place in (data_dir, folder, ".") if place is not None]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is not None:
        return PairSource(name, path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?(:[\w.:-]+)?", name) and ("@" in name or ":" in name):
        raise UserError(f"data.{key}: {name} needs a commit of 40 hex digits and a split: org/name@COMMIT:split")
    raise AbsentError(f"data.{key}: there is no file {name} under --data-dir, beside the recipe or here: name one")
