"""Errors that a user can cause and fix, in one sentence; and lists of them, so that all are reported at once."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NamedTuple


class Problem(NamedTuple):
    """What would keep a comparison from working.

    Attributes:
        what: that has it: ``model``, ``judge``, ``benchmark mmlu``.
        sentence: what is wrong.
        fix: what to do about it; "" where the sentence says it.
        absent: whether something is only not on this machine, so that ``sail-bench plan`` can go on without it.
    """

    what: str
    sentence: str
    fix: str = ""
    absent: bool = False

    @classmethod
    def of(cls, what: str, error: UserError) -> Problem:
        """The problem that an error is about.

        Args:
            what: has it.
            error: whose sentence names the fix.
        """
        return cls(what, str(error).rstrip("."), absent=isinstance(error, AbsentError))

    @property
    def text(self) -> str:
        """The sentence with the fix."""
        return ": ".join(part for part in (self.sentence, self.fix) if part)


MOST_NAMES = 40
"""Of the names that exist, an error lists no more."""


class UserError(Exception):
    """One sentence that names the file, key or flag and the fix. The command line prints it and exits with 2.

    Attributes:
        problems: those that it reports, where it was made of some.
    """

    problems: tuple[Problem, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is to be said, each on a line of its own."""
        return tuple(problem.text for problem in self.problems) or (str(self),)


class AbsentError(UserError):
    """Data or packages that a recipe needs are not on this machine, and cannot be fetched; ``sail-bench plan`` goes on
    without."""


class MissingPackageError(AbsentError):
    """A package that a recipe needs is not installed."""


class Problems:
    """Collects problems, each sentence once, to report all of them at once."""

    def __init__(self) -> None:
        self.all: list[Problem] = []

    def add(self, problems: Iterable[Problem]) -> None:
        """Add problems whose sentence is not there yet; one with a place in brackets stands for the same without."""
        for problem in problems:
            if not any(f"{other.text} (".startswith(f"{problem.text} (") for other in self.all):
                self.all = [other for other in self.all if not problem.text.startswith(f"{other.text} (")]
                self.all.append(problem)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Collect what is raised in its context.

        Args:
            what: has the problem.
        """
        try:
            yield
        except UserError as error:
            self.add(error.problems or [Problem.of(what, error)])

    def check(self) -> None:
        """Raise an error if there are any.

        Raises:
            AbsentError: something is not on this machine, and nothing else is wrong.
            UserError: something else is wrong.
        """
        if self.all:
            raise error_of(self.all)


def error_of(problems: Sequence[Problem]) -> UserError:
    """The error that reports problems, each with a sentence of its own.

    Args:
        problems: one or more.
    """
    kind = AbsentError if all(problem.absent for problem in problems) else UserError
    error = kind("\n".join(problem.text for problem in problems))
    error.problems = tuple(problems)
    return error


def errors_of(sentences: Sequence[str], what: str = "recipe") -> UserError:
    """The error that holds these sentences.

    Args:
        sentences: at least one.
        what: has the problems.
    """
    return error_of([Problem(what, sentence) for sentence in sentences])


def install(extra: str) -> str:
    """The command that installs an extra, from a clone: there is no package on an index.

    Args:
        extra: its name in ``pyproject.toml``.
    """
    pins = "-c constraints-gpu.txt " * (extra == "vllm")
    return f"python -m pip install {pins}'.[{extra}]' in a clone of SAIL-bench"


def shown(value: object, letters: int = 80) -> str:
    """A value in an error, shortened in the middle if it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = letters
    try:
        return short.repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of thousands of digits"


def message_of(error: BaseException) -> str:
    """The message of an error, which is made by the code that failed, and may fail itself."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - as above
        return "its message cannot be read"


def reason_of(error: BaseException, letters: int = 200) -> str:
    """Kind and message of an error of code that is not ours, as a short line that any file and terminal takes.

    Args:
        error: whose message may be of any length, hold anything, or fail to be made.
        letters: of the message, at most.
    """
    text = message_of(error)[: 20 * letters]
    line = next(filter(None, (" ".join(part.split()) for part in text.splitlines())), "")
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in line)
    line = line if len(line) <= letters else f"{line[: letters - 1]}\u2026"
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def unknown(kind: str, name: str, known: Iterable[str], more: str = "") -> UserError:
    """The error for a name that does not exist, with the nearest one that does.

    Args:
        kind: what the name is of ("method", "recipe").
        name: as the user wrote it.
        known: names that exist.
        more: what to say after their list.
    """
    names = sorted(set(known))
    lower = {other.lower(): other for other in names}
    near = [lower[n] for n in get_close_matches(name.lower()[:200], lower, n=1, cutoff=0.4)]
    listed = ", ".join(names[:MOST_NAMES]) + (f", and {len(names) - MOST_NAMES:,} more" * (len(names) > MOST_NAMES))
    hint = f"did you mean {near[0]!r}?" if near else f"known: {listed}{more and f'; {more}'}."
    return UserError(f"Unknown {kind} {shown(name)}: {hint}")
