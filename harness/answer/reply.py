"""One question to a model behind an OpenAI-compatible endpoint, and the reply to it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from harness.store.foreign_text import LONGEST_NAME, clipped
from harness.store.json_files import storable
from harness.store.redaction import redacted

EMPTY = "empty answer"
"""Error of a reply without text."""

REFUSED = "refused: "
"""Beginning of the error of a question that the endpoint would refuse again."""

LARGEST_LOGP = 0.01
"""A log-probability above it is none (0, with room for rounding)."""


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
            "messages": [{"role": r, "content": storable(c).text} for r, c in self.messages],
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
        model: the model that answered, as the endpoint names it (cut after :data:`LONGEST_NAME` characters, without
            keys, as the other names).
        fingerprint: the endpoint's ``system_fingerprint``.
        tokens_in: tokens of the prompt; 0 if the endpoint reports no number that can be.
        tokens_out: tokens of the answer; likewise.
        error: "" or :data:`EMPTY`, a refusal (it begins with :data:`REFUSED`), or a fault that left the question
            unanswered: its kind (:func:`fault_kind`), and the provider's words if there are any.
        finish: why the answer ended (``finish_reason``).
        replaced: characters of the text that no store takes (NUL, half of a surrogate pair); U+FFFD stands for them.
    """

    text: str | None
    top_logprobs: dict[str, float] | None = None
    model: str = ""
    fingerprint: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    error: str = ""
    finish: str = ""
    replaced: int = 0

    @property
    def answered(self) -> bool:
        """An answer came, though it may be empty."""
        return not self.error or self.error == EMPTY

    @property
    def unanswered(self) -> bool:
        """Nothing came (connection, timeout, status, a broken body), and another attempt may bring an answer."""
        return not self.answered and not self.error.startswith(REFUSED)


def fault_kind(error: str) -> str:
    """The kind of a fault, without the provider's words: ``status 503`` of ``status 503: overloaded``."""
    return error.partition(":")[0]


class UnreadableReplyError(Exception):
    """A response that lacks a part that every chat completion has, such as the body of an error."""


LARGEST_COUNT = 10**8
"""Tokens that a reply can report. More is a mistake of the endpoint, and how many there were is not known."""


def parse_reply(body: Any, *, empty_is_answer: bool) -> Reply:
    """The parts of a chat completion that are kept, made storable.

    The text is read from a string or from a list of parts, of which those of type ``text`` count: thoughts that the
    endpoint keeps apart (``reasoning_content``, parts of type ``thinking``) are no part of the answer. Counts and
    log-probabilities that cannot be read are missing; the answer is there all the same.

    Args:
        body: JSON of the response.
        empty_is_answer: whether an empty text is an answer as good as any; else its reply has the error
            :data:`EMPTY`.

    Raises:
        UnreadableReplyError: the response lacks what a chat completion has.
    """
    try:
        choice = body["choices"][0]
        content = _content_text(choice["message"].get("content"))
    except (TypeError, KeyError, IndexError, AttributeError):
        raise UnreadableReplyError from None
    text, replaced = storable(content)
    top = _top_logprobs(choice)
    usage = body.get("usage")
    tokens = usage if isinstance(usage, Mapping) else {}
    return Reply(
        text=text,
        top_logprobs=top or None,
        model=_name(body.get("model")),
        fingerprint=_name(body.get("system_fingerprint")),
        tokens_in=_count(tokens.get("prompt_tokens")),
        tokens_out=_count(tokens.get("completion_tokens")),
        error="" if text or top or empty_is_answer else EMPTY,
        finish=_name(choice.get("finish_reason")),
        replaced=replaced,
    )


def _content_text(content: Any) -> str:
    """The text of a message's ``content``: a string, a list of parts, or nothing."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        text = part
        if isinstance(part, Mapping):
            text = part.get("text") if part.get("type", "text") in ("text", "output_text") else ""
        if not isinstance(text, str):
            raise UnreadableReplyError
        texts.append(text)
    return "".join(texts)


def _top_logprobs(choice: Mapping[str, Any]) -> dict[str, float]:
    """Log-probabilities of the first token's alternatives; those that are none are left out."""
    try:
        alternatives = choice["logprobs"]["content"][0]["top_logprobs"]
        pairs = [(storable(t["token"]).text, float(t["logprob"])) for t in alternatives]
    except (TypeError, KeyError, IndexError, AttributeError, ValueError, OverflowError):
        return {}
    return {token: logp for token, logp in pairs if math.isfinite(logp) and logp <= LARGEST_LOGP}


def _count(value: Any) -> int:
    """A number of tokens; 0 if it is none, or one that cannot be."""
    try:
        count = 0 if isinstance(value, bool) else int(value or 0)
    except (TypeError, ValueError, OverflowError):
        return 0
    return count if 0 <= count <= LARGEST_COUNT else 0


def _name(value: Any) -> str:
    return clipped(redacted(storable(value[: 2 * LONGEST_NAME]).text), LONGEST_NAME) if isinstance(value, str) else ""


def retry_after_seconds(headers: Any) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date (RFC 9110, section 10.2.3); None without one."""
    value = headers.get("retry-after") or ""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return None
