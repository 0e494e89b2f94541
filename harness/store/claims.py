"""Locks between the processes of one machine that share a store, one for each number, thousands at no cost.

They are ranges of one byte in an empty file (POSIX ``fcntl``). The system frees those of a process that ends, however
it ends. Where there are no such locks (Windows, some network file systems) every claim is granted: processes there then
do some work twice. :func:`held` is one lock for a whole command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NUMBERS = 2**62


class Claims:
    """Claims on numbers below :data:`NUMBERS`, valid among threads and processes alike."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # never closed: closing any handle of the file would free all claims of the process
        self._file = path.open("ab")
        self._own: set[int] = set()

    def take(self, number: int) -> bool:
        """Claim a number; False if somebody else, here or in another process, has it."""
        if number in self._own:
            return False
        if fcntl is not None:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):  # the two that POSIX allows for a lock that is taken
                return False
            except OSError:  # a file system without locks
                pass
        self._own.add(number)
        return True

    def free(self, number: int) -> None:
        """Give a claimed number back."""
        self._own.remove(number)
        if fcntl is not None:
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)


@lru_cache(maxsize=16)
def claims_in(path: Path) -> Claims:
    """The claims of this process in a file. There must be one object a process for a file."""
    return Claims(path)


@contextmanager
def held(path: Path, *, alone: bool = False) -> Iterator[bool]:
    """Hold a file's lock. The system frees it when the process ends, however it ends.

    Args:
        path: of the file, which is made.
        alone: whether nobody else may hold it. Then it is not waited for; without it, many hold it at once, and wait
            for one who is alone.

    Yields:
        whether it is held: False if others hold one that ``alone`` asked for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        free = True
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
            except BlockingIOError:
                free = False
            except OSError:  # no such locks here
                pass
        yield free
