"""Reads the rows of one file as pairs: what the first row and the file as a whole decide. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from harness.pairs.implicit_prompt import refuse_prompt_elsewhere
from harness.pairs.layouts import (
    NO_PROMPT,
    READERS,
    Label,
    PreferencePair,
    Unusable,
    columns_not_used,
    detect_layout,
    is_transcript,
)
from harness.pairs.row_texts import RawRow, has_no_prompt


class FileReader:
    """Reads the rows of one file, in their order.

    Attributes:
        layout: of the file; ``auto`` until a row has decided it.
        unused: columns with a value that nothing read.
    """

    def __init__(self, rows: Iterable[RawRow], layout: str = "auto", label: Label = "better") -> None:
        """Note what the file as a whole says.

        Args:
            rows: all rows of the file.
            layout: a key of ``READERS``; ``auto`` takes what the first row is.
            label: which of PKU-SafeRLHF's two preferences counts.
        """
        self.layout, self.unused = layout, set[str]()
        self._label, self._detected = label, layout == "auto"
        self._has_prompts = any(not has_no_prompt(row.get("prompt")) for row in rows)

    def read(self, row: RawRow) -> PreferencePair:
        """The pair of a row. Two texts without a prompt, in a file whose other rows have one, are no pair.

        Raises:
            Malformed: it breaks the layout, or fits none.
            Unusable: it holds no preference.
        """
        if self._has_prompts and self._lacks_prompt(row):
            raise Unusable(NO_PROMPT)
        if self.layout == "auto":
            self.layout = detect_layout(row)
        elif self.layout == "trl" and self._detected and "chosen" in row and "rejected" in row:
            refuse_prompt_elsewhere(row)
        self.unused |= columns_not_used(row, self.layout, self._label)
        return READERS[self.layout](row, self._label)

    def _lacks_prompt(self, row: RawRow) -> bool:
        chosen, rejected = row.get("chosen"), row.get("rejected")
        if not (isinstance(chosen, str) and isinstance(rejected, str)) or not has_no_prompt(row.get("prompt")):
            return False
        return self.layout == "trl" or (
            self.layout == "auto" and "conversations" not in row and not is_transcript(None, chosen, rejected)
        )
