"""A policy behind an OpenAI-compatible endpoint: as :class:`harness.answer.policy.Policy`, but for texts only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.answer.chat import Messages, render
from harness.answer.client import Client
from harness.answer.final_answer import FinalAnswer, final_answer
from harness.answer.reply import Call, Reply
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.recipe.endpoint import Endpoint, Thinking
from harness.store.json_files import digest
from harness.store.row_cache import RowCache
from sail.types import Completion, Request


@dataclass(frozen=True)
class TextCompletion(Completion):
    """An answer of which only the ``text`` is known: ``ids`` are the start policy's tokens for it, ``logps`` empty."""

    text: str = ""
    replaced: int = 0
    """Characters of the text that stand for those that no store takes."""


class EndpointPolicy:
    """Answers conversations through an endpoint.

    As everywhere, a prompt is identified by its token ids under the start policy's template; the endpoint gets the
    messages and applies its own template. A sampled answer's seed follows from the request's key, for servers that use
    a seed.

    Args:
        endpoint: the model and how to reach it.
        tokenizer: tokenizer of the start policy.
        meter: is charged with the tokens that the endpoint reports.
        cache: keeps each answer as it comes; None keeps nothing.
        thinking: whether answers are judged without their thoughts; the endpoint is asked the same either way.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: Any,
        *,
        meter: Meter,
        cache: RowCache | None,
        thinking: Thinking = "strip",
    ) -> None:
        self.endpoint, self.tokenizer, self.meter, self._cache = endpoint, tokenizer, meter, cache
        self.thinking = thinking
        self.identity = f"endpoint-{digest(endpoint.identity())}"
        self._messages_of_prompt: dict[tuple[int, ...], Messages] = {}
        self._progress: Callable[[int], None] = lambda done: None

    def render(self, messages: Messages) -> tuple[int, ...]:
        """Token ids of a conversation under the start policy's template, which identify it in requests."""
        ids = tuple(render(self.tokenizer, messages))
        self._messages_of_prompt[ids] = messages
        return ids

    def text(self, completion: Completion) -> str:
        """The answer as the endpoint gave it."""
        assert isinstance(completion, TextCompletion)
        return completion.text.strip()

    def final(self, completion: Completion, request: Request) -> FinalAnswer:
        """What benchmarks judge of an answer. Which block the endpoint's template opens is not known."""
        return final_answer(self.text(completion), completion.stopped, self.thinking)

    def sample(
        self,
        requests: Sequence[Request],
        progress: Callable[[int], None] | None = None,
        *,
        priced: bool = False,
        shared: bool = False,
    ) -> list[Completion]:
        """Answers in request order; each is cached as it comes.

        An empty answer is an answer. So is a refusal (the prompt is too long, a filter) if the endpoint answers others.

        Args:
            requests: prompts that :meth:`render` returned, with their sampling settings.
            progress: called with the number of new answers.
            priced, shared: ignored; they are there for the signature of :meth:`harness.answer.policy.Policy.sample`.

        Raises:
            UserError: the endpoint left some prompts unanswered after all retries. Its answers are kept.
        """
        self._progress = progress or (lambda done: None)
        replies = self._client.ask([self._call(r) for r in requests])
        faults = [r.error for r in replies if r.unanswered]
        if faults:
            raise UserError(
                f"The endpoint {self.endpoint.model!r} answered {len(replies) - len(faults)} of {len(replies)} prompts "
                f"({faults[0]}): run the same command again for the rest"
            )
        if refusals := [r.error for r in replies if r.error]:
            print(f"{len(refusals)} prompts count as answered with nothing (the first {refusals[0]})", flush=True)
        return [self._completion(r) for r in replies]

    @cached_property
    def _client(self) -> Client:
        def paid(reply: Reply) -> None:
            self.meter.charge("generated", reply.tokens_out)
            self.meter.charge("tokens", reply.tokens_in + reply.tokens_out)
            self._progress(1)

        return Client(self.endpoint, self._cache, paid, empty_is_answer=True)

    def _call(self, request: Request) -> Call:
        messages = tuple((m["role"], m["content"]) for m in self._messages_of_prompt[request.prompt])
        seed = int(digest(list(request.key)), 16) % 2**31 if request.temperature else None
        return Call(messages, request.temperature, request.max_new_tokens, seed=seed)

    def _completion(self, reply: Reply) -> TextCompletion:
        text = reply.text or ""
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()
        return TextCompletion(ids, (), reply.finish != "length", text, reply.replaced)
