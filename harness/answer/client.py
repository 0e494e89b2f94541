"""Asks a model behind an OpenAI-compatible endpoint: many requests at once, every answer kept, none paid for twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.answer.endpoint_spending import CapReachedError, SpendingCaps, Tally
from harness.answer.reply import REFUSED, Call, Reply, UnreadableReplyError, parse_reply, retry_after_seconds
from harness.errors import UserError
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import digest

if TYPE_CHECKING:
    from harness.store.row_cache import RowCache


LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most."""

OUTAGE_FAULTS = ("connection", "status 429")
"""Faults of the endpoint itself, whatever the question."""

OUTAGE_LENGTH = 8
"""Questions in a row without an answer that show an outage (or the number of concurrent requests, if that is more)."""

ANY_FAULT_FACTOR = 4
"""So many times that, if the faults may be about the questions."""


class _EndpointRefusesError(Exception):
    """The endpoint refuses all requests. The message is a sentence for the user."""


class _Attempt(NamedTuple):
    """The reply of one request, and the seconds that the endpoint asks to wait before the next, if it says so."""

    reply: Reply
    wait: float | None = None


class Client:
    """Asks one model.

    Args:
        endpoint: the model and how to reach it.
        cache: keeps each answer as it comes; without it nothing is kept.
        on_reply: called with each answer that was paid for, before it is kept.
        empty_is_answer: whether an empty text is an answer like any other. It is from a policy. A judge is asked again,
            and its reply is kept if it stays empty.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: RowCache | None = None,
        on_reply: Callable[[Reply], None] = lambda reply: None,
        *,
        empty_is_answer: bool = False,
    ) -> None:
        self.endpoint, self.cache, self.tally = endpoint, cache, Tally()
        self._caps = SpendingCaps(endpoint, self.tally, cache)
        self._on_reply, self._empty_is_answer = on_reply, empty_is_answer
        self._has_answered = False

    def cost(self, reply: Reply) -> float:
        """What an answer costs, in the currency of the endpoint's prices."""
        return self._caps.price(reply)

    def key(self, call: Call) -> str:
        """Cache key: the model's identity and everything in the question."""
        return digest(["judge", self.endpoint.identity(), asdict(call)])

    def ask(self, calls: Sequence[Call], progress: Callable[[int], None] = lambda done: None) -> list[Reply]:
        """Replies in the order of ``calls``. A question that occurs twice is asked once.

        Args:
            calls: the questions.
            progress: called with the number of questions that are finished.

        Raises:
            UserError: there is no key, the endpoint refuses all requests (401, 402, 404; 400 and the like before any
                answer), a cap is reached, or the endpoint is away (:meth:`_outage`). The answers so far are in the
                cache: the same call again goes on from there.
        """
        keys = [self.key(call) for call in calls]
        replies = {k: Reply(**v) for k, v in self.cache.get(keys).items()} if self.cache else {}
        self.tally.cached += len(replies)
        self._has_answered |= any(reply.answered for reply in replies.values())
        open_calls = {k: call for k, call in zip(keys, calls, strict=True) if k not in replies}
        if open_calls:
            progress(len(replies))
            asyncio.run(self._ask_all(open_calls, replies, progress))
        return [replies[k] for k in keys]

    async def _ask_all(
        self, open_calls: dict[str, Call], replies: dict[str, Reply], progress: Callable[[int], None]
    ) -> None:
        """Ask all open calls and put their replies, by key, into ``replies``."""
        client = self._openai()
        queue = iter(open_calls.items())
        stop_reasons: list[str] = []
        faults: list[str] = []  # errors since the last answer
        refused_keys: list[str] = []  # keys of the refusals among them

        async def work() -> None:
            for key, call in queue:
                if stop_reasons:
                    return
                try:
                    reply = await self._ask_one(client, call)
                except (CapReachedError, _EndpointRefusesError) as error:
                    stop_reasons.append(str(error))
                    return
                replies[key] = reply
                if reply.answered:
                    self._has_answered = True
                    if self.cache:  # the endpoint answers, so what it refused before was about those questions
                        self.cache.put([(k, asdict(replies[k])) for k in (*refused_keys, key)])
                    faults.clear()
                    refused_keys.clear()
                else:
                    faults.append(reply.error)
                    if not reply.unanswered:
                        refused_keys.append(key)
                    if outage := self._outage(faults):
                        stop_reasons.append(outage)
                progress(len(replies))

        async with client:
            await asyncio.gather(*(work() for _ in range(min(self.endpoint.concurrency, len(open_calls)))))
        if faults and faults[-1].startswith(REFUSED) and not self._has_answered:
            stop_reasons.append(self._refusal_sentence(faults[-1]))
        if stop_reasons:
            done = sum(k in replies and replies[k].answered for k in open_calls)
            raise UserError(f"{stop_reasons[0]} ({done} of {len(open_calls)} open requests were answered and are kept)")

    def _outage(self, faults: Sequence[str]) -> str:
        """A sentence for the user if the endpoint is away, else "".

        It is away if one question after the other got no answer, each after all its retries: by faults of the endpoint
        itself, by any faults before its first answer, or by very many faults. A few questions never end the others, for
        they may be too long or too slow.
        """
        length = max(OUTAGE_LENGTH, self.endpoint.concurrency)
        recent = faults[-length:]
        is_away = len(recent) >= length and (not self._has_answered or all(f in OUTAGE_FAULTS for f in recent))
        if not is_away and len(faults) < ANY_FAULT_FACTOR * length:
            return ""
        if faults[-1].startswith(REFUSED):
            return self._refusal_sentence(faults[-1])
        return (
            f"The model {self.endpoint.model!r} does not answer ({faults[-1]}): look after its server and run the same "
            "command again"
        )

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
        """One question with its retries. Every answer is paid for, an empty one too."""
        reply = Reply(None)
        for attempt in range(self.endpoint.retries + 1):
            self._caps.check()
            self.tally.requests += 1
            reply, wait = await self._attempt(client, call)
            if reply.answered:
                self.tally.cost += self._caps.price(reply)
                self._on_reply(reply)
            self._caps.record()
            if not reply.error or reply.error.startswith(REFUSED):
                break
            self.tally.faults[reply.error] += 1
            if attempt < self.endpoint.retries:
                factor = 4 if reply.error == "connection" and self._has_answered else 1  # a server that starts again
                backoff = min(LONGEST_WAIT, factor * 0.5 * 2**attempt) * random.uniform(0.5, 1)
                await asyncio.sleep(backoff if wait is None else min(LONGEST_WAIT, wait))
        return reply

    async def _attempt(self, client: Any, call: Call) -> _Attempt:
        """One request. Its reply may be an error."""
        import openai

        try:
            seed = {} if self.endpoint.seed is None else {"seed": self.endpoint.seed}
            request = {"model": self.endpoint.model, **seed, **call.request()}
            # untyped: parsing into openai's typed models costs more time than all the rest
            body = await client.post("/chat/completions", cast_to=object, body=request)
            return _Attempt(parse_reply(body, empty_is_answer=self._empty_is_answer))
        except openai.APITimeoutError:
            return _Attempt(Reply(None, error="timeout"))
        except openai.APIStatusError as error:
            if error.status_code in (408, 409, 425, 429) or error.status_code >= 500:
                wait = retry_after_seconds(error.response.headers)
                return _Attempt(Reply(None, error=f"status {error.status_code}"), wait)
            refusal = self._refusal(error)
            if error.status_code in (401, 402, 404) or (error.status_code == 403 and not self._has_answered):
                raise _EndpointRefusesError(self._refusal_sentence(refusal)) from None
            return _Attempt(Reply(None, error=refusal))
        except openai.APIConnectionError:
            return _Attempt(Reply(None, error="connection"))
        except (openai.APIError, json.JSONDecodeError, UnreadableReplyError):
            return _Attempt(Reply(None, error="malformed answer"))

    def _refusal(self, error: Any) -> str:
        """Error of a reply to a request that the endpoint would refuse again, without the key."""
        reason, key = " ".join(str(error).split()), os.environ.get(self.endpoint.api_key_env)
        return REFUSED + (reason.replace(key, "***") if key else reason)[:200]

    def _refusal_sentence(self, refusal: str) -> str:
        advice = f"check model, base_url and {self.endpoint.api_key_env}"
        return f"The model {self.endpoint.model!r} refuses ({refusal.removeprefix(REFUSED)}): {advice}"
