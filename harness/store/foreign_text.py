"""Text from outside: made inert on its way out, and cut and redacted where it becomes part of an error.

Outside is whatever a user, a server, a plugin or a file says. An answer or a verdict is never altered where it is kept;
:func:`inert` is for what is shown, :func:`error_text` for what is said about a fault.
"""

from __future__ import annotations

import io
import re
import sys

from harness.store.json_files import REPLACEMENT
from harness.store.redaction import redacted

LONGEST_ERROR = 2000
"""Characters of an error of a plugin or a library that are kept."""

LONGEST_NAME = 200
"""Characters of a name that a server reports that are kept."""

_CHARACTERS = "\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_ACTIVE = re.compile(f"[{_CHARACTERS}]")


def inert(text: str) -> str:
    """Text with U+FFFD in place of control characters (an ANSI escape begins with one), of marks that turn the
    direction of text, and of halves of a surrogate pair. Line ends stay; a tab is a space."""
    return _ACTIVE.sub(REPLACEMENT, text.replace("\r\n", "\n").replace("\t", " "))


def one_line(text: object) -> str:
    """Text on one line, and :func:`inert`."""
    return " ".join(inert(str(text)).split())


def clipped(text: str, letters: int) -> str:
    """Text of at most so many characters; an ellipsis stands for the rest."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def error_text(text: object, letters: int = LONGEST_ERROR) -> str:
    """What somebody else's error says, for one of ours or for a log: on one line, :func:`inert`, without keys, cut.

    Args:
        text: the error, or its words.
        letters: that are kept.
    """
    try:
        words = str(text)
    except Exception as error:  # noqa: BLE001 - a plugin's error may fail to be written, too
        words = f"its text cannot be read: {type(error).__name__}"
    return clipped(redacted(one_line(words[: 20 * letters])), letters)


def shown_text(text: str) -> str:
    """An error or a note for the terminal: without keys, and :func:`inert`."""
    return inert(redacted(text))


def log_text(text: str) -> str:
    """Text for a log: as :func:`shown_text`, but carriage returns stay, for progress bars have them."""
    return "\r".join(map(inert, redacted(text).split("\r")))


def warn(text: str) -> None:
    """A line to the standard error, which may hold foreign text."""
    print(shown_text(text), file=sys.stderr, flush=True)


class CleanLog(io.TextIOWrapper):
    """The standard output and standard error of a process whose output is a log (:func:`log_text`)."""

    def write(self, text: str) -> int:
        """Write text, made clean; the number of characters that were given."""
        super().write(log_text(text))
        return len(text)

    @classmethod
    def of(cls, number: int) -> CleanLog:
        """The log that an open file descriptor leads to."""
        raw = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115 - it stays open with the process
        return cls(raw, encoding="utf-8", errors="replace", write_through=True)
