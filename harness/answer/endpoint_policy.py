"""The policy behind an OpenAI-compatible endpoint: :class:`harness.answer.policy.Policy` as far as texts go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.answer.chat import Messages, render
from harness.answer.client import Call, Client, Reply
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import digest
from harness.store.row_cache import RowCache
from sail.types import Completion, Request


@dataclass(frozen=True)
class Said(Completion):
    """An answer of which only the ``text`` is known: ``ids`` are the start policy's tokens for it, ``logps`` empty."""

    text: str = ""


class EndpointPolicy:
    """Answers conversations through an endpoint.

    A prompt is known by its token ids under the start policy's template, as everywhere; the endpoint gets the messages
    and applies its own. A sampled answer's seed follows from the request's key, for servers that heed one.
    """

    def __init__(self, endpoint: Endpoint, tokenizer: Any, *, meter: Meter, cache: RowCache | None) -> None:
        self.endpoint, self.tokenizer, self.meter, self._cache = endpoint, tokenizer, meter, cache
        self.identity = f"endpoint-{digest(endpoint.identity())}"
        self._asked: dict[tuple[int, ...], Messages] = {}
        self._progress: Callable[[int], None] = lambda done: None

    def render(self, messages: Messages) -> tuple[int, ...]:
        """Name of a conversation: its token ids under the start policy's template."""
        ids = tuple(render(self.tokenizer, messages))
        self._asked[ids] = messages
        return ids

    def text(self, completion: Completion) -> str:
        """The answer as the endpoint gave it."""
        assert isinstance(completion, Said)
        return completion.text.strip()

    def sample(
        self, requests: Sequence[Request], progress: Callable[[int], None] | None = None, *, priced: bool = False
    ) -> list[Completion]:
        """Answers in request order; each is kept as it comes. An empty one is an answer, and so is a prompt that the
        endpoint refuses (too long, a filter) while it answers others.

        Raises:
            UserError: the endpoint left some unanswered after all retries; those it gave are kept.
        """

        self._progress = progress or (lambda done: None)
        replies = self._client.ask([self._call(r) for r in requests])
        open_ = [r.error for r in replies if r.unanswered]
        if open_:
            raise UserError(
                f"The endpoint {self.endpoint.model!r} answered {len(replies) - len(open_)} of {len(replies)} prompts "
                f"({open_[0]}): run the same command again for the rest"
            )
        if refused := [r.error for r in replies if r.error]:
            print(f"{len(refused)} prompts count as answered with nothing (the first {refused[0]})", flush=True)
        return [self._said(r) for r in replies]

    @cached_property
    def _client(self) -> Client:
        def paid(reply: Reply) -> None:
            self.meter.charge("generated", reply.tokens_out)
            self.meter.charge("tokens", reply.tokens_in + reply.tokens_out)
            self._progress(1)

        return Client(self.endpoint, self._cache, paid, empty=True)

    def _call(self, request: Request) -> Call:
        messages = tuple((m["role"], m["content"]) for m in self._asked[request.prompt])
        seed = int(digest(list(request.key)), 16) % 2**31 if request.temperature else None
        return Call(messages, request.temperature, request.max_new_tokens, seed=seed)

    def _said(self, reply: Reply) -> Said:
        text = reply.text or ""
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()
        return Said(ids, (), reply.finish != "length", text)
