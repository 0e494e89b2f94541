"""Errors that a user can cause and fix, in one sentence each."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MOST_NAMES = 40
"""Of the names that exist, an error lists no more."""


class UserError(Exception):
    """One sentence that names the file, key or flag and the fix. The command line prints it and exits with 2."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is to be said, each on a line of its own."""
        return (str(self),)


class CombinedUserError(UserError):
    """Several errors at once. The command line prints each on a line of its own."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("\n".join(sentences))
        self._sentences = tuple(sentences)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentence of each error."""
        return self._sentences


class AbsentError(UserError):
    """Data that a recipe names are not on this machine and cannot be fetched; ``sail-bench plan`` goes on without."""


def errors_of(sentences: Sequence[str]) -> UserError:
    """The error that holds these sentences: at least one."""
    return UserError(sentences[0]) if len(sentences) == 1 else CombinedUserError(sentences)


def shown(value: object, letters: int = 80) -> str:
    """A value in an error, shortened in the middle if it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = letters
    return short.repr(value)


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest one that does.

    Args:
        kind: what the name is of ("method", "recipe").
        name: as the user wrote it.
        known: names that exist.
    """
    names = sorted(set(known))
    near = get_close_matches(name, names, n=1, cutoff=0.4) if len(name) < 200 else []
    listed = ", ".join(names[:MOST_NAMES]) + (f", and {len(names) - MOST_NAMES:,} more" * (len(names) > MOST_NAMES))
    hint = f"did you mean {near[0]!r}?" if near else f"known: {listed}."
    return UserError(f"Unknown {kind} {shown(name)}: {hint}")
