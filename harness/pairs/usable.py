"""The usable pairs of a source, one by one: a malformed row is an error that names file and line, a well-formed row
that is of no use is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.pairs.file_reader import FileReader
from harness.pairs.layouts import EMPTY, EQUAL, LAST_TURN, NO_PROMPT, TIE, PreferencePair, Unusable
from harness.pairs.pair_source import PairSource
from harness.pairs.row_texts import has_no_prompt
from harness.recipe.recipe import PairsSpec
from harness.store.json_files import digest
from harness.store.user_files import Malformed

MAX_CHARACTERS = 1_000_000

_CURES = {
    NO_PROMPT: "add a 'prompt', or let both conversations begin with it and end with an answer",
    LAST_TURN: "write the beginning of the answer into 'chosen' and 'rejected' instead of the prompt",
    TIE: "name a file in which one answer is the better one",
    EMPTY: "check that 'chosen' and 'rejected' hold the answers",
    EQUAL: "check that 'chosen' and 'rejected' are not one column",
}


class UsablePair(NamedTuple):
    """A pair, and the hash of its content that is its id."""

    id: str
    pair: PreferencePair


class UsablePairs:
    """Reads a source, and leaves out rows that hold no preference, duplicates and texts that are far too long.

    Args:
        source: what is read.
        data: says which layout, and which label counts.
    """

    def __init__(self, source: PairSource, data: PairsSpec) -> None:
        self._source, self._data, self._rows = source, data, 0
        self._left_out, self._ids = Counter[str](), Counter[str]()

    def __iter__(self) -> Iterator[UsablePair]:
        """The distinct usable pairs, in order.

        Raises:
            UserError: a row breaks its layout (file and line are named), or no row is usable.
        """
        seen, usable = set[int](), 0
        rows = self._source.rows()
        first = list(islice(rows, 1))
        self._reader = self._reader_of([row for _, row in first])
        for place, row in chain(first, rows):
            self._rows += 1
            try:
                pair = self._reader.read(row)
            except Malformed as error:
                raise UserError(f"{self._name}, {place}: {error}") from None
            except Unusable as error:
                self._left_out[str(error)] += 1
                continue
            if row.get("id") is not None:
                self._ids[str(row["id"])] += 1
            key = digest(pair.content())
            if int(key, 16) in seen:
                self._left_out["duplicates"] += 1
            elif max(map(len, (pair.prompt_text(), pair.chosen, pair.rejected))) > MAX_CHARACTERS:
                self._left_out["over a million characters"] += 1
            else:
                usable += 1
                yield UsablePair(key, pair)
            seen.add(int(key, 16))
        if not usable:
            reason = max(self._left_out, key=lambda reason: self._left_out[reason], default="")
            raise UserError(
                f"{self._name} holds no usable pair ({listed(self._left_out) or 'it is empty'}): "
                f"{_CURES.get(reason, 'name another file')}"
            )

    @property
    def _name(self) -> object:
        return self._source.path or self._source.name

    def _reader_of(self, first: list[dict[str, Any]]) -> FileReader:
        """What reads the rows. Only a file whose first row has no prompt is looked through for one beforehand."""
        if any(has_no_prompt(row.get("prompt")) for row in first):
            return FileReader((row for _, row in self._source.rows()), str(self._data.format), self._data.label)
        return FileReader(first, str(self._data.format), self._data.label)

    def counts(self) -> dict[str, Any]:
        """After the last pair: the source's entry in :attr:`harness.pairs.imported.ImportedPairs.counts`."""
        repeated = sum(count - 1 for count in self._ids.values())
        return {
            "format": self._reader.layout,
            "rows": self._rows,
            "left_out": dict(sorted(self._left_out.items())),
            "kept": {"repeat an id and get one of their own": repeated} if repeated else {},
            "columns_not_used": sorted(self._reader.unused),
        }


def listed(counts: Mapping[str, int]) -> str:
    """Counts by reason, for a sentence."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
