"""Pairs with known preferences from a user's file, to try a judge on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.pairs.file_reader import FileReader
from harness.pairs.layouts import Unusable
from harness.pairs.pair_source import PairSource
from harness.store.user_files import Malformed

PREFERRED = "ultrafeedback_binarized_test_prefs_500.jsonl"


class LabelledPair(NamedTuple):
    """A request and two answers to it, the better one first."""

    prompt: str
    chosen: str
    rejected: str


class PairsRead(NamedTuple):
    """The usable pairs of a file, and how many rows before the last of them hold no preference (equal or empty answers,
    no request of their own)."""

    pairs: list[LabelledPair]
    without_preference: int


def read_pairs(path: Path, limit: int) -> PairsRead:
    """The first ``limit`` usable pairs of a file.

    Rows are of a layout of :mod:`harness.pairs.layouts`, recognised by the first one; or the request is in
    ``instruction``, with an optional ``input``, in place of ``prompt``.

    Raises:
        UserError: no file, a row that is no pair (named with its line), or no usable pair at all.
    """
    pairs: list[LabelledPair] = []
    skipped = 0
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it with --pairs")
    source = PairSource(path.name, path)
    reader = FileReader({"prompt": row.get("prompt") or row.get("instruction")} for _, row in source.rows())
    for where, row in source.rows():
        try:
            pair = reader.read(_with_prompt(row))
        except Malformed as error:
            raise UserError(f"{path}, {where}: {error}") from None
        except Unusable:
            skipped += 1
            continue
        pairs.append(LabelledPair(pair.prompt_text(), pair.chosen, pair.rejected))
        if len(pairs) == limit:
            break
    if not pairs:
        raise UserError(f"{path} holds no usable pair ({skipped} without a preference): name another file with --pairs")
    return PairsRead(pairs, skipped)


def pairs_file(folder: Path) -> Path:
    """The file of pairs in a data folder: UltraFeedback's test pairs in ``preference/``, or the only file there.

    Raises:
        UserError: there is none, or more than one.
    """
    preferred = folder / "preference" / PREFERRED
    candidates = [preferred] if preferred.is_file() else sorted((folder / "preference").glob("*.jsonl"))
    if len(candidates) == 1:
        return candidates[0]
    names = ", ".join(p.name for p in candidates) or "no .jsonl file"
    raise UserError(f"{folder / 'preference'} holds {names}: name one file of pairs with --pairs")


def _with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """The row with ``prompt`` made of ``instruction`` and ``input`` where it has none."""
    instruction = row.get("instruction")
    if row.get("prompt") is not None or not isinstance(instruction, str):
        return row
    more = row.get("input")
    if more is not None and not isinstance(more, str):
        raise Malformed(f"'input' must be a string, not {type(more).__name__}")
    return row | {"prompt": f"{instruction}\n\n{more}" if more else instruction}
