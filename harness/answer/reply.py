"""One question to a model behind an OpenAI-compatible endpoint, and the reply to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

EMPTY = "empty answer"
"""Error of a reply without text."""

REFUSED = "refused: "
"""Beginning of the error of a question that the endpoint would refuse again."""


@dataclass(frozen=True)
class Call:
    """One question: chat ``messages`` (role, content) and everything in the request that can change the answer.

    ``sample`` tells several answers to the same question apart.
    """

    messages: tuple[tuple[str, str], ...]
    temperature: float = 0.0
    max_tokens: int = 2048
    top_logprobs: int = 0
    seed: int | None = None
    sample: int = 0

    def request(self) -> dict[str, Any]:
        """Parameters of the chat completion, as JSON."""
        parameters: dict[str, Any] = {
            "messages": [{"role": r, "content": c} for r, c in self.messages],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if self.top_logprobs:
            parameters |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return parameters if self.seed is None else parameters | {"seed": self.seed}


@dataclass(frozen=True)
class Reply:
    """An answer, or the error that all attempts ended in.

    Attributes:
        text: the answer; None if nothing came.
        top_logprobs: log-probabilities (nats) of the first token's alternatives; None if the endpoint gave none.
        model: the model that answered, as the endpoint names it.
        fingerprint: the endpoint's ``system_fingerprint``.
        tokens_in: tokens of the prompt.
        tokens_out: tokens of the answer.
        error: "" or :data:`EMPTY`, a refusal (it begins with :data:`REFUSED`), or a fault that left the question
            unanswered.
        finish: why the answer ended (``finish_reason``).
    """

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
        """Nothing came (connection, timeout, status, a broken body), and another attempt may bring an answer."""
        return not self.answered and not self.error.startswith(REFUSED)


class UnreadableReplyError(Exception):
    """A response that lacks a part that every chat completion has."""


def parse_reply(body: Any, *, empty_is_answer: bool) -> Reply:
    """The parts of a chat completion that are kept.

    Args:
        body: JSON of the response.
        empty_is_answer: whether an empty text is an answer as good as any; else its reply has the error
            :data:`EMPTY`.

    Raises:
        UnreadableReplyError: the response lacks what a chat completion has.
    """
    try:
        choice = body["choices"][0]
        text = choice["message"].get("content") or ""
        content = (choice.get("logprobs") or {}).get("content")
        top = {t["token"]: float(t["logprob"]) for t in content[0]["top_logprobs"]} if content else None
        usage = body.get("usage") or {}
        tokens_in, tokens_out = (int(usage.get(key) or 0) for key in ("prompt_tokens", "completion_tokens"))
    except (TypeError, KeyError, IndexError, AttributeError, ValueError):
        raise UnreadableReplyError from None
    if not isinstance(text, str):
        raise UnreadableReplyError
    return Reply(
        text=text,
        top_logprobs=top or None,
        model=str(body.get("model") or ""),
        fingerprint=str(body.get("system_fingerprint") or ""),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        error="" if text or top or empty_is_answer else EMPTY,
        finish=str(choice.get("finish_reason") or ""),
    )


def retry_after_seconds(headers: Any) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date (RFC 9110, section 10.2.3); None without one."""
    value = headers.get("retry-after") or ""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
