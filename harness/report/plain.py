"""Text from outside on its way into a terminal or a picture: what would act on the reader's side is made inert."""

from __future__ import annotations

import re

from harness.store.json_files import REPLACEMENT

_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def one_line(text: object) -> str:
    """Text on one line, with U+FFFD in place of control characters (an ANSI escape begins with one), of marks that turn
    the direction of text and of halves of a surrogate pair."""
    return _ACTIVE.sub(REPLACEMENT, " ".join(re.split(r"[\r\n\t]+", str(text))))
