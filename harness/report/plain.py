"""Text from outside on its way out: what would act on the reader's side is made inert."""

from __future__ import annotations

import re

from harness.store.json_files import REPLACEMENT

_ACTIVE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def inert(text: str) -> str:
    """Text with U+FFFD in place of control characters (an ANSI escape begins with one), of marks that turn the
    direction of text, and of halves of a surrogate pair. Line ends stay; a tab is a space."""
    return _ACTIVE.sub(REPLACEMENT, text.replace("\r\n", "\n").replace("\t", " "))


def one_line(text: object) -> str:
    """Text on one line, and :func:`inert`."""
    return " ".join(inert(str(text)).split())
