"""Whose turn it is where several processes ask one endpoint: each question once, so many requests at a time in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from harness.recipe.endpoint import Endpoint
from harness.store.claims import NUMBERS, Claims, claims_in
from harness.store.json_files import digest

if TYPE_CHECKING:
    from harness.store.row_cache import RowCache

PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.25
"""Between two looks whether a turn has come: at first, and after a long wait."""


class Turns:
    """Turns of the clients of one endpoint that share a cache.

    ``concurrency`` of the endpoint holds for all of them together: for the workers of a command, and for two commands.

    Args:
        endpoint: that is asked.
        cache: in whose folder the claims are; None: nobody else asks.
    """

    def __init__(self, endpoint: Endpoint, cache: RowCache | None) -> None:
        self._questions: Claims | None = None
        if cache is not None:
            folder = cache.path.parent / "locks"
            self._questions, self._requests = claims_in(folder / "asking"), claims_in(folder / "sending")
        first = int(digest(endpoint.identity()), 16) % NUMBERS // 2
        self._slots = range(first, first + endpoint.concurrency)

    @asynccontextmanager
    async def question(self, key: str) -> AsyncIterator[None]:
        """The turn to ask a question; ``key``: a digest of it. Another process may have asked it in the meantime."""
        if self._questions is None:
            yield
            return
        number = await _claimed(self._questions, [int(key, 16) % NUMBERS])
        try:
            yield
        finally:
            self._questions.free(number)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """The turn to send a request."""
        if self._questions is None:
            yield
            return
        number = await _claimed(self._requests, self._slots)
        try:
            yield
        finally:
            self._requests.free(number)


async def _claimed(claims: Claims, numbers: Sequence[int]) -> int:
    """The first of some numbers that could be claimed."""
    pause = PAUSE_S
    while True:
        for number in numbers:
            if claims.take(number):
                return number
        await asyncio.sleep(pause)
        pause = min(1.2 * pause, LONGEST_PAUSE_S)
