"""Claims among all processes that share a store: thousands of numbers, each had by one, and things that many hold."""

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
def held(path: Path, *, alone: bool = False) -> Iterator[bool]:
    """Hold something. It is free when the process ends, however it ends.

    Args:
        path: its name; the leases are in a folder of that name, which is made, and beside it.
        alone: whether nobody else may hold it. Then it is not waited for; without it, many hold it at once, and wait
            for one who is alone.

    Yields:
        whether it is held: False if others hold one that ``alone`` asked for.
    """
    path = path.absolute()
    leases, single = leases_in(path.parent), path.with_name(f"{path.name}{LEASE}")
    if alone:
        if not leases.take(single):
            yield False
            return
        try:
            yield not any(leases.held(other) for other in path.glob(f"*{LEASE}"))
        finally:
            leases.free(single)
        return
    leases.sweep()
    while True:
        with leased(path / f"{writer()}-{next(_numbers)}{LEASE}", path.parent):  # first said, then looked, by both
            if not leases.held(single):
                yield True
                return
        time.sleep(LONGEST_PAUSE_S)
