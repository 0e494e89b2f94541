"""Judges behind an OpenAI-compatible endpoint: many requests at once, each answer kept as it comes, none paid twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import digest

if TYPE_CHECKING:
    from harness.store.row_cache import RowCache


LONGEST_WAIT = 60.0

EMPTY = "empty answer"

REFUSED = "refused: "

AWAY = ("connection", "status 429")  # faults of an endpoint, whatever it was asked

ENOUGH, MANY = 8, 4  # questions in a row without an answer: where it is away, and times that for any fault


@dataclass(frozen=True)
class Call:
    """One question: chat ``messages`` and everything in the request that can change the answer. ``sample``: which of
    several answers to the same question this is."""

    messages: tuple[tuple[str, str], ...]
    temperature: float = 0.0
    max_tokens: int = 2048
    top_logprobs: int = 0
    seed: int | None = None
    sample: int = 0

    def request(self) -> dict[str, Any]:
        """Parameters of the chat completion."""
        found: dict[str, Any] = {
            "messages": [{"role": r, "content": c} for r, c in self.messages],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if self.top_logprobs:
            found |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return found if self.seed is None else found | {"seed": self.seed}


@dataclass(frozen=True)
class Reply:
    """An answer: its ``text``, the first token's alternatives (``top_logprobs``, None if the endpoint gave none), the
    model that the endpoint says answered, tokens in and out, why it ended (``finish``); or the ``error`` that all
    attempts ended in: an empty answer, a refusal, or a fault that left the question unanswered."""

    text: str | None
    top_logprobs: dict[str, float] | None = None
    model: str = ""
    fingerprint: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    error: str = ""
    finish: str = ""

    @property
    def answered(self) -> bool:
        """An answer came, though it may be empty."""
        return not self.error or self.error == EMPTY

    @property
    def unanswered(self) -> bool:
        """Nothing came (connection, timeout, status, a broken body), so that asking once more may bring an answer."""
        return not self.answered and not self.error.startswith(REFUSED)


@dataclass
class Tally:
    """What a client did: requests sent, answers from the cache, faults by kind (each was retried or is an error).
    ``before``: requests and cost that the store had recorded when it began, for the caps."""

    requests: int = 0
    cached: int = 0
    cost: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    before: tuple[int, float] = (0, 0.0)


class _StopError(Exception):
    """Ends all requests: the sentence to tell."""


class Client:
    """Asks one judge.

    Args:
        cache: keeps each answer as it comes; without it nothing is kept. on_reply: called with each answer that was
            paid for, before it is kept. empty: whether an empty text is as good as any (a policy's may be; a judge's
            is asked for again, and kept if it stays empty).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: RowCache | None = None,
        on_reply: Callable[[Reply], None] = lambda reply: None,
        *,
        empty: bool = False,
    ) -> None:
        self.endpoint, self.cache, self.tally = endpoint, cache, Tally()
        self._on_reply, self._empty = on_reply, empty
        self._answered = False
        self._capped = digest(["spent", endpoint.identity()]) if endpoint.max_requests or endpoint.max_cost else ""
        if cache and self._capped:
            known = cache.get([self._capped]).get(self._capped, {"requests": 0, "cost": 0.0})
            self.tally.before = known["requests"], known["cost"]

    def key(self, call: Call) -> str:
        """Cache key: the judge's identity and everything in the question."""
        return digest(["judge", self.endpoint.identity(), asdict(call)])

    def ask(self, calls: Sequence[Call], progress: Callable[[int], None] = lambda done: None) -> list[Reply]:
        """Replies in the order of ``calls``. A question that stands twice is asked once.

        Raises:
            UserError: no key, a refusal of all requests (401, 402, 404; 400 and the like before any answer), a cap, or
                an endpoint that is away (:meth:`_away`). What was answered is kept in the cache: the same call again
                goes on from there.
        """
        keys = [self.key(call) for call in calls]
        found = {k: Reply(**v) for k, v in self.cache.get(keys).items()} if self.cache else {}
        self.tally.cached += len(found)
        self._answered |= any(reply.answered for reply in found.values())
        missing = {k: call for k, call in zip(keys, calls, strict=True) if k not in found}
        if missing:
            progress(len(found))
            asyncio.run(self._ask_all(missing, found, progress))
        return [found[k] for k in keys]

    async def _ask_all(
        self, missing: dict[str, Call], found: dict[str, Reply], progress: Callable[[int], None]
    ) -> None:
        client = self._openai()
        waiting = iter(missing.items())
        stop: list[str] = []
        lost: list[str] = []  # faults since the last answer
        refused: list[str] = []  # keys of the refusals among them

        async def work() -> None:
            for key, call in waiting:
                if stop:
                    return
                try:
                    reply = await self._ask_one(client, call)
                except _StopError as sentence:
                    stop.append(str(sentence))
                    return
                found[key] = reply
                if reply.answered:
                    self._answered = True
                    if self.cache:  # the endpoint answers: what it refused before was about those questions
                        self.cache.put([(k, asdict(found[k])) for k in (*refused, key)])
                    lost.clear()
                    refused.clear()
                else:
                    lost.append(reply.error)
                    refused.extend([] if reply.unanswered else [key])
                    stop.extend(self._away(lost))
                progress(len(found))

        async with client:
            await asyncio.gather(*(work() for _ in range(min(self.endpoint.concurrency, len(missing)))))
        if lost and lost[-1].startswith(REFUSED) and not self._answered:
            stop.append(self._refusal(lost[-1]))
        if stop:
            done = sum(k in found and found[k].answered for k in missing)
            raise UserError(f"{stop[0]} ({done} of {len(missing)} open requests were answered and are kept)")

    def _away(self, lost: Sequence[str]) -> list[str]:
        """The sentence that ends all, where one question after the other found no answer, each after all its retries:
        by faults of the endpoint, by any before its first answer, or by very many. A few questions never end the
        others, for they may be too long or too slow."""
        enough = max(ENOUGH, self.endpoint.concurrency)
        away = len(lost) >= enough and (not self._answered or all(fault in AWAY for fault in lost[-enough:]))
        if not away and len(lost) < MANY * enough:
            return []
        if lost[-1].startswith(REFUSED):
            return [self._refusal(lost[-1])]
        told = f"The model {self.endpoint.model!r} does not answer ({lost[-1]})"
        return [f"{told}: look after its server and run the same command again"]

    def _openai(self) -> Any:
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise UserError("An endpoint needs openai: python -m pip install openai") from None
        key = os.environ.get(self.endpoint.api_key_env)
        if not key and self.endpoint.base_url is None:
            raise UserError(
                f"The model {self.endpoint.model!r} needs a key: set the variable {self.endpoint.api_key_env}"
            )
        return AsyncOpenAI(
            api_key=key or "none", base_url=self.endpoint.base_url, max_retries=0, timeout=self.endpoint.timeout
        )

    async def _ask_one(self, client: Any, call: Call) -> Reply:
        """One question with its retries; every answer is paid for, an empty one too."""
        reply = Reply(None)
        for attempt in range(self.endpoint.retries + 1):
            self._caps()
            self.tally.requests += 1
            wait, reply = await self._attempt(client, call)
            if reply.answered:
                self.tally.cost += self.cost(reply)
                self._on_reply(reply)
            self._record()
            if not reply.error or reply.error.startswith(REFUSED):
                break
            self.tally.faults[reply.error] += 1
            if attempt < self.endpoint.retries:
                longer = 4 if reply.error == "connection" and self._answered else 1  # a server that starts again
                backoff = min(LONGEST_WAIT, longer * 0.5 * 2**attempt) * random.uniform(0.5, 1)
                await asyncio.sleep(backoff if wait is None else min(LONGEST_WAIT, wait))
        return reply

    def _record(self) -> None:
        """Keep what was spent, where a cap counts it."""
        if self.cache and self._capped:
            (requests, cost), now = self.tally.before, self.tally
            spent = {"requests": requests + now.requests, "cost": cost + now.cost}
            self.cache.put([(self._capped, spent)], replace=True)

    async def _attempt(self, client: Any, call: Call) -> tuple[float | None, Reply]:
        """The wait that the endpoint asked for, and its reply, which may be an error."""
        import openai

        try:
            seed = {} if self.endpoint.seed is None else {"seed": self.endpoint.seed}
            body = {"model": self.endpoint.model, **seed, **call.request()}
            answer = await client.post(
                "/chat/completions", cast_to=object, body=body
            )  # typed models cost more than all
            return None, _read(answer, self._empty)
        except openai.APITimeoutError:
            return None, Reply(None, error="timeout")
        except openai.APIStatusError as error:
            if error.status_code in (408, 409, 425, 429) or error.status_code >= 500:
                return _retry_after(error.response.headers), Reply(None, error=f"status {error.status_code}")
            refused = self._refused(error)
            if error.status_code in (401, 402, 404) or (error.status_code == 403 and not self._answered):
                raise _StopError(self._refusal(refused)) from None
            return None, Reply(None, error=refused)
        except openai.APIConnectionError:
            return None, Reply(None, error="connection")
        except (openai.APIError, json.JSONDecodeError, _UnreadableError):
            return None, Reply(None, error="malformed answer")

    def _refused(self, error: Any) -> str:
        """The error of a reply to a request that the endpoint would refuse again."""
        reason, key = " ".join(str(error).split()), os.environ.get(self.endpoint.api_key_env)
        return REFUSED + (reason.replace(key, "***") if key else reason)[:200]

    def _refusal(self, refused: str) -> str:
        mend = f"check model, base_url and {self.endpoint.api_key_env}"
        return f"The model {self.endpoint.model!r} refuses ({refused.removeprefix(REFUSED)}): {mend}"

    def cost(self, reply: Reply) -> float:
        """What an answer costs, in the currency of the prices."""
        return (reply.tokens_in * self.endpoint.price_in + reply.tokens_out * self.endpoint.price_out) / 1e6

    def _caps(self) -> None:
        limit, cost = self.endpoint.max_requests, self.endpoint.max_cost
        sent, spent = self.tally.before[0] + self.tally.requests, self.tally.before[1] + self.tally.cost
        if limit and sent >= limit:
            raise _StopError(f"The cap of {limit} requests is reached: raise max_requests to go on")
        if cost and spent >= cost:
            raise _StopError(f"The cap of {cost:g} is reached ({spent:.2f} spent): raise max_cost to go on")


class _UnreadableError(Exception):
    """An answer without what an answer needs."""


def _read(answer: Any, empty: bool) -> Reply:
    """The parts of a chat completion (its JSON) that are kept."""
    try:
        choice = answer["choices"][0]
        text = choice["message"].get("content") or ""
        content = (choice.get("logprobs") or {}).get("content")
        top = {t["token"]: float(t["logprob"]) for t in content[0]["top_logprobs"]} if content else None
        usage = answer.get("usage") or {}
        tokens = [int(usage.get(k) or 0) for k in ("prompt_tokens", "completion_tokens")]
    except (TypeError, KeyError, IndexError, AttributeError, ValueError):
        raise _UnreadableError from None
    if not isinstance(text, str):
        raise _UnreadableError
    model, fingerprint, finish = (
        str(found.get(key) or "")
        for found, key in ((answer, "model"), (answer, "system_fingerprint"), (choice, "finish_reason"))
    )
    error = "" if text or top or empty else EMPTY
    return Reply(text, top or None, model, fingerprint, tokens[0], tokens[1], error, finish)


def _retry_after(headers: Any) -> float | None:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3)."""
    told = headers.get("retry-after") or ""
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        return None
