"""Errors that a user can cause and fix, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """One sentence that names the file, key or flag and the fix. The command line prints it and exits with 2."""


class AbsentError(UserError):
    """Data that a recipe names are not on this machine and cannot be fetched; ``sail-bench plan`` goes on without."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest one that does.

    Args:
        kind: what the name is of ("method", "recipe").
        name: as the user wrote it.
        known: names that exist.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}."
    return UserError(f"Unknown {kind} {name!r}: {hint}")
