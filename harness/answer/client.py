"""Asks a model behind an OpenAI-compatible endpoint: many requests at once, every answer kept, none paid for twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from harness.answer.endpoint_check import key_problems
from harness.answer.endpoint_spending import CapReachedError, SpendingCaps, Tally
from harness.answer.endpoint_turns import Turns
from harness.answer.provider_error import REFUSING_ALL, ProviderError, advice, error_in_body, status_error
from harness.answer.reply import (
    REFUSED,
    Call,
    Reply,
    UnreadableReplyError,
    fault_kind,
    parse_reply,
    retry_after_seconds,
)
from harness.errors import UserError, error_of
from harness.recipe.endpoint import Endpoint
from harness.store.foreign_text import error_text, warn
from harness.store.json_files import digest

if TYPE_CHECKING:
    import httpx

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
        self._turns = Turns(endpoint, cache)
        self._on_reply, self._empty_is_answer = on_reply, empty_is_answer
        self._has_answered = False
        self._sentences: dict[str, str] = {}  # for the user, by the refusal that they are about

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
        self._report(calls, [replies[k] for k in keys])
        return [replies[k] for k in keys]

    def _report(self, calls: Sequence[Call], replies: Sequence[Reply]) -> None:
        """Write to the log what the user may want to know about the replies."""
        notes, name = [], self.endpoint.model
        if replaced := [reply.replaced for reply in replies if reply.replaced]:
            notes.append(
                f"{len(replaced)} replies of {name!r} held {sum(replaced)} characters that cannot be stored: U+FFFD "
                "stands for them"
            )
        if uncounted := sum(reply.answered and not reply.tokens_in for reply in replies):
            notes.append(f"{uncounted} replies of {name!r} report no usable number of tokens: they count as none")
        answered = [r for c, r in zip(calls, replies, strict=True) if c.top_logprobs and r.answered]
        if answered and not any(reply.top_logprobs for reply in answered):
            notes.append(
                f"{name!r} gives no log-probabilities: set the benchmark's option verdict: text (judge-card: --verdict "
                "text)"
            )
        if faults := [reply.error for reply in replies if reply.unanswered]:
            notes.append(f"{len(faults)} calls of {name!r} are unanswered (the last: {faults[-1]})")
        for note in notes:
            warn(note)

    async def _ask_all(
        self, open_calls: dict[str, Call], replies: dict[str, Reply], progress: Callable[[int], None]
    ) -> None:
        """Ask all open calls and put their replies, by key, into ``replies``."""
        # a pool for each worker: a shared one looks through all of its connections several times a request
        clients = [self._http() for _ in range(min(self.endpoint.concurrency, len(open_calls)))]
        queue = iter(open_calls.items())
        stop_reasons: list[str] = []
        faults: list[str] = []  # errors since the last answer
        refused_keys: list[str] = []  # keys of the refusals among them

        async def work(client: httpx.AsyncClient) -> None:
            for key, call in queue:
                if stop_reasons:
                    return
                async with self._turns.question(key):
                    if other := self._answered_meanwhile(key):
                        replies[key], self._has_answered = other, True
                        progress(len(replies))
                        continue
                    try:
                        reply = await self._ask_one(client, call)
                    except (CapReachedError, _EndpointRefusesError) as error:
                        stop_reasons.append(str(error))
                        return
                    replies[key] = reply
                    self._keep(key, reply, replies, faults, refused_keys)
                if outage := self._outage(faults):
                    stop_reasons.append(outage)
                progress(len(replies))

        async with AsyncExitStack() as stack:
            await asyncio.gather(*[work(await stack.enter_async_context(client)) for client in clients])
        if faults and faults[-1].startswith(REFUSED) and not self._has_answered:
            stop_reasons.append(self._sentences[faults[-1]])
        if stop_reasons:
            done = sum(k in replies and replies[k].answered for k in open_calls)
            raise UserError(f"{stop_reasons[0]} ({done} of {len(open_calls)} open requests were answered and are kept)")

    def _keep(
        self, key: str, reply: Reply, replies: dict[str, Reply], faults: list[str], refused_keys: list[str]
    ) -> None:
        """Keep an answer, and note a fault.

        Args:
            key: of the question.
            reply: to it.
            replies: all so far, by key.
            faults: errors since the last answer; changed.
            refused_keys: keys of the refusals among them; changed.
        """
        if not reply.answered:
            faults.append(reply.error)
            if not reply.unanswered:
                refused_keys.append(key)
            return
        self._has_answered = True
        if self.cache:  # the endpoint answers, so what it refused before was about those questions
            self.cache.put([(k, asdict(replies[k])) for k in (*refused_keys, key)])
        faults.clear()
        refused_keys.clear()

    def _answered_meanwhile(self, key: str) -> Reply | None:
        """What another process has asked and kept since :meth:`ask` looked."""
        if not self.cache:
            return None
        return next((Reply(**value) for value in self.cache.get([key]).values()), None)

    def _outage(self, faults: Sequence[str]) -> str:
        """A sentence for the user if the endpoint is away, else "".

        It is away if one question after the other got no answer, each after all its retries: by faults of the endpoint
        itself, by any faults before its first answer, or by very many faults. A few questions never end the others, for
        they may be too long or too slow.
        """
        length = max(OUTAGE_LENGTH, self.endpoint.concurrency)
        recent = faults[-length:]
        of_endpoint = all(fault_kind(fault) in OUTAGE_FAULTS for fault in recent)
        is_away = len(recent) >= length and (not self._has_answered or of_endpoint)
        if not is_away and len(faults) < ANY_FAULT_FACTOR * length:
            return ""
        if faults[-1].startswith(REFUSED):
            return self._sentences[faults[-1]]
        return (
            f"The model {self.endpoint.model!r} does not answer ({faults[-1]}): look after its server and run the same "
            "command again"
        )

    def _http(self) -> httpx.AsyncClient:
        from harness.answer.http_replies import http_client

        if problems := key_problems("endpoint", self.endpoint):
            raise error_of(problems)
        return http_client(self.endpoint)

    async def _ask_one(self, client: httpx.AsyncClient, call: Call) -> Reply:
        """One question with its retries. Every answer is paid for, an empty one too."""
        reply = Reply(None)
        for attempt in range(self.endpoint.retries + 1):
            self._caps.count_request()
            async with self._turns.slot():
                reply, wait = await self._attempt(client, call)
            if reply.answered:
                self._caps.count_cost(reply)
                self._on_reply(reply)
            if not reply.error or reply.error.startswith(REFUSED):
                break
            self.tally.faults[fault_kind(reply.error)] += 1
            if attempt < self.endpoint.retries:
                factor = 4 if reply.error == "connection" and self._has_answered else 1  # a server that starts again
                backoff = min(LONGEST_WAIT, factor * 0.5 * 2**attempt) * random.uniform(0.5, 1)
                await asyncio.sleep(backoff if wait is None else min(LONGEST_WAIT, wait))
        return reply

    async def _attempt(self, client: httpx.AsyncClient, call: Call) -> _Attempt:
        """One request. Its reply may be an error."""
        import httpx

        from harness.answer.http_replies import BodyError, send

        content = self.endpoint.request(call.request())
        try:
            got = await send(client, "POST", "/chat/completions", seconds=self.endpoint.timeout, content=content)
            if not got.is_success:
                problem = status_error(got.status, got.json_or_text())
                if problem.passing:
                    return _Attempt(Reply(None, error=f"status {got.status}"), retry_after_seconds(got.headers))
                return self._failed(problem, call)
            body = got.json()
            if problem_in_body := error_in_body(body):
                return self._failed(problem_in_body, call)
            return _Attempt(parse_reply(body, empty_is_answer=self._empty_is_answer))
        except (TimeoutError, httpx.TimeoutException):
            return _Attempt(Reply(None, error="timeout"))
        except (httpx.HTTPError, httpx.InvalidURL):
            return _Attempt(Reply(None, error="connection"))
        except BodyError as error:
            return _Attempt(Reply(None, error=f"malformed answer: {error_text(error)}"))
        except (ValueError, RecursionError, UnreadableReplyError):  # not JSON, or not ours
            return _Attempt(Reply(None, error="malformed answer"))

    def _failed(self, problem: ProviderError, call: Call) -> _Attempt:
        """The reply that stands for an error of the provider.

        Raises:
            _EndpointRefusesError: the endpoint would refuse every request.
        """
        fix = "" if problem.passing else advice(problem, self.endpoint, call)  # from the words before a key is hidden
        problem = problem._replace(words=error_text(problem.words))
        reply = Reply(None, error=problem.error)
        if not problem.passing:
            sentence = f"The model {self.endpoint.model!r} refuses ({problem.text}): "
            self._sentences[reply.error] = sentence + fix
            if problem.status in REFUSING_ALL or (problem.status == 403 and not self._has_answered):
                raise _EndpointRefusesError(self._sentences[reply.error])
        return _Attempt(reply)
