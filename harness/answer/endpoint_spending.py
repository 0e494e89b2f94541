"""What a client has spent at an endpoint, and the caps of the endpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from harness.answer.reply import Reply
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import digest

if TYPE_CHECKING:
    from harness.store.row_cache import RowCache


class Spent(NamedTuple):
    """Requests sent, and their cost in the currency of the endpoint's prices."""

    requests: int
    cost: float


@dataclass
class Tally:
    """What one client did.

    Attributes:
        requests: requests sent.
        cached: answers that came from the cache.
        cost: cost of all answers, in the currency of the endpoint's prices.
        faults: faults by kind; each was retried or became an error.
    """

    requests: int = 0
    cached: int = 0
    cost: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


class CapReachedError(Exception):
    """A cap of the endpoint is reached. The message is a sentence for the user."""


class SpendingCaps:
    """The caps of an endpoint (``max_requests``, ``max_cost``), over all clients and processes that share a cache.

    Args:
        endpoint: has the caps and the prices.
        tally: counts of the client; kept up to date here.
        cache: keeps what was spent under a cap; without it the caps are those of this client.
    """

    def __init__(self, endpoint: Endpoint, tally: Tally, cache: RowCache | None) -> None:
        self._endpoint, self._tally, self._cache = endpoint, tally, cache
        self._key = digest(["spent", endpoint.identity()]) if endpoint.max_requests or endpoint.max_cost else ""

    def price(self, reply: Reply) -> float:
        """What an answer costs, in the currency of the endpoint's prices (which are for a million tokens)."""
        return (reply.tokens_in * self._endpoint.price_in + reply.tokens_out * self._endpoint.price_out) / 1e6

    def count_request(self) -> None:
        """Count a request that is about to be sent.

        Raises:
            CapReachedError: a cap is reached; it must not be sent.
        """
        self._add(1, 0.0)
        self._tally.requests += 1

    def count_cost(self, reply: Reply) -> None:
        """Count what an answer cost."""
        cost = self.price(reply)
        self._tally.cost += cost
        if self._key and self._cache and cost:
            self._add(0, cost)

    def _add(self, requests: int, cost: float) -> None:
        if not (self._key and self._cache):
            if self._key and requests:
                self._check(Spent(self._tally.requests, self._tally.cost))
            return

        def added(stored: dict[str, float] | None) -> dict[str, float]:
            before = Spent(int(stored["requests"]), stored["cost"]) if stored else Spent(0, 0.0)
            if requests:
                self._check(before)
            return {"requests": before.requests + requests, "cost": before.cost + cost}

        self._cache.change(self._key, added)

    def _check(self, spent: Spent) -> None:
        """Raise an error if a cap is reached."""
        limit, max_cost = self._endpoint.max_requests, self._endpoint.max_cost
        if limit and spent.requests >= limit:
            raise CapReachedError(f"The cap of {limit} requests is reached: raise max_requests to go on")
        if max_cost and spent.cost >= max_cost:
            raise CapReachedError(
                f"The cap of {max_cost:g} is reached ({spent.cost:.2f} spent): raise max_cost to go on"
            )
