"""Sentences about what was damaged and what became of it, for whoever listens: the terminal, or the log of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.store.foreign_text import warn

_listeners: list[Callable[[str], None]] = []


def notify(text: str) -> None:
    """Give a sentence to the innermost listener, or to standard error if there is none."""
    if _listeners:
        _listeners[-1](text)
    else:
        warn(text)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Send the sentences of this process to a listener, until the context ends."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
