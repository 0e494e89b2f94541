"""Claims among all processes that share a store: thousands of numbers, each had by one; and a store as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path

from harness.store.hosts import writer
from harness.store.leases import LEASE, LONGEST_PAUSE_S, leased, leases_in

NUMBERS = 2**62

COMMANDS = "running"
"""Folder in ``locks/`` with a lease for each command that works with the store."""

CLEARING = f"clearing{LEASE}"
"""Lease in ``locks/`` of the command that removes stages."""

_numbers = count()


class Claims:
    """Claims on numbers below :data:`NUMBERS`: leases in a folder. They are free when their process ends, however it
    ends (:mod:`harness.store.leases`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._folder.mkdir(parents=True, exist_ok=True)

    def take(self, number: int) -> bool:
        """Claim a number; False if somebody else, here or in another process, has it."""
        return leases_in(self._folder.parent).take(self._path(number))

    def free(self, number: int) -> None:
        """Give a claimed number back."""
        leases_in(self._folder.parent).free(self._path(number))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:x}{LEASE}"


@lru_cache(maxsize=16)
def claims_in(folder: Path) -> Claims:
    """The claims of this process in a folder. There must be one object a process for a folder."""
    return Claims(folder)


@contextmanager
def in_use(locks: Path) -> Iterator[bool]:
    """Hold a store, as many commands do at once. It waits while one holds it alone (:func:`alone_in`).

    Args:
        locks: folder of the store's leases, which is made.
    """
    locks = locks.absolute()
    leases = leases_in(locks)
    leases.sweep()
    while True:
        with leased(_command(locks), locks):  # said first, then looked: one of two who do so sees the other
            if not leases.held(locks / CLEARING):
                yield True
                return
        time.sleep(LONGEST_PAUSE_S)


@contextmanager
def alone_in(locks: Path) -> Iterator[bool]:
    """Hold a store alone, which keeps others waiting.

    Args:
        locks: folder of the store's leases, which is made.

    Yields:
        whether it is held: False if a command has the store in use.
    """
    locks = locks.absolute()
    leases = leases_in(locks)
    if not leases.take(locks / CLEARING):
        yield False
        return
    try:
        yield not any(leases.held(path) for path in (locks / COMMANDS).glob(f"*{LEASE}"))
    finally:
        leases.free(locks / CLEARING)


def _command(locks: Path) -> Path:
    """A lease of its own for a command."""
    return locks / COMMANDS / f"{writer()}-{next(_numbers)}{LEASE}"
