"""Pairs with known preferences that a user brings, to try a judge on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.pairs.layouts import READERS, Unusable, detect_layout
from harness.store import user_files as files
from harness.store.user_files import Malformed

PREFERRED = "ultrafeedback_binarized_test_prefs_500.jsonl"


class Pair(NamedTuple):
    """A request and two answers to it, the better one first."""

    prompt: str
    chosen: str
    rejected: str


def read_pairs(path: Path, limit: int) -> tuple[list[Pair], int]:
    """The first ``limit`` usable pairs of a file, and how many rows before them hold no preference (equal or empty
    answers, no request of their own).

    Rows are of a layout of :mod:`harness.pairs.layouts`, told from the first; or the request is in
    ``instruction``, with an optional ``input``, in place of ``prompt``.

    Raises:
        UserError: no file, a row that is no pair (named with its line), or no usable pair at all.
    """
    found: list[Pair] = []
    passed, layout = 0, ""
    for where, row in files.read_located_rows(path):
        try:
            asked = _prompted(row)
            layout = layout or detect_layout(asked)
            pair = READERS[layout](asked, "better")
        except Malformed as error:
            raise UserError(f"{path}, {where}: {error}") from None
        except Unusable:
            passed += 1
            continue
        found.append(Pair(pair.prompt_text(), pair.chosen, pair.rejected))
        if len(found) == limit:
            break
    if not found:
        raise UserError(f"{path} holds no usable pair ({passed} without a preference): name another file with --pairs")
    return found, passed


def pairs_file(folder: Path) -> Path:
    """The file of pairs in a data folder: ``preference/`` holds UltraFeedback's test pairs, or one file alone.

    Raises:
        UserError: it is not there, or there is a choice.
    """
    known = folder / "preference" / PREFERRED
    there = [known] if known.is_file() else sorted((folder / "preference").glob("*.jsonl"))
    if len(there) == 1:
        return there[0]
    held = ", ".join(p.name for p in there) or "no .jsonl file"
    raise UserError(f"{folder / 'preference'} holds {held}: name one file of pairs with --pairs")


def _prompted(row: dict[str, Any]) -> dict[str, Any]:
    """The row with ``prompt`` made of ``instruction`` and ``input`` where it has none."""
    told = row.get("instruction")
    if row.get("prompt") is not None or not isinstance(told, str):
        return row
    more = row.get("input")
    if more is not None and not isinstance(more, str):
        raise Malformed(f"'input' must be a string, not {type(more).__name__}")
    return row | {"prompt": f"{told}\n\n{more}" if more else told}
