"""Reading judgment files of official tools: files that hold rows, and refusing mixtures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.benchmark import Row
from harness.errors import UserError
from harness.store import user_files


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
