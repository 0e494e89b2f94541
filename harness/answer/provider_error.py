"""What a provider says when it gives no answer: its own words, whether to ask again, and which option helps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.answer.reply import REFUSED, Call
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import storable

LONGEST_WORDS = 200
"""Characters of a provider's words that are kept."""

PASSING = (408, 409, 425, 429)
"""Statuses below 500 after which another attempt may bring an answer."""

REFUSING_ALL = (401, 402, 404)
"""Statuses of an endpoint that refuses every request."""

_PASSING_WORDS = re.compile(
    r"overload|rate.?limit|too.?many.?requests|try (?:it )?again|temporar|unavailable|time.?d?.?out|\bbusy\b|"
    r"internal.?(?:server.?)?error|server.?error|api_error|bad.?gateway",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|not permitted|not allowed|extra inputs|unexpected"
)
_TOO_FEW = re.compile(r"below.{0,20}minimum|expected a value >=|must be (?:at least|greater|>=)")
_NO_SYSTEM = re.compile(
    r"system.{0,40}(?:role|message|instruction|prompt)|role.{0,40}system|'system'|developer instruction|"
    r"roles must alternate|only user.{0,20}assistant"
)
_MESSAGE_KEYS = ("error", "errors", "message", "detail", "msg", "title", "type", "code", "status")
_DEEPEST = 8


class ProviderError(NamedTuple):
    """An error of the endpoint.

    Attributes:
        status: HTTP status, or the code of an error body under status 200; None if it names none.
        words: of the provider, in one line; "" if there are none.
        passing: whether another attempt may bring an answer.
    """

    status: int | None
    words: str
    passing: bool

    @property
    def text(self) -> str:
        """Status and words in a line."""
        status = "" if self.status is None else f"status {self.status}"
        return ": ".join(part for part in (status, self.words[:LONGEST_WORDS]) if part) or "no reason given"

    @property
    def error(self) -> str:
        """As the error of a reply: a refusal, or a fault that begins with its kind."""
        if not self.passing:
            return REFUSED + self.text
        if self.status is None:
            return f"provider error: {self.words[:LONGEST_WORDS]}" if self.words else "malformed answer"
        return self.text


def status_error(status: int, body: Any) -> ProviderError:
    """The error of a response that is not 200.

    Args:
        status: HTTP status.
        body: JSON or text of the response.
    """
    return ProviderError(status, error_words(body), status in PASSING or status >= 500)


def error_in_body(body: Any) -> ProviderError | None:
    """The error that stands in the body of a response with status 200; None if there is none.

    It is an ``error`` of the body or of its first choice, ``errors``, or the body itself where that is an error object.
    A code that is an HTTP status counts as one; without one the provider's words decide whether to ask again.
    """
    value = _error_value(body)
    if not value:
        return None
    words, status = error_words(value), _status(value)
    if status is not None:
        return ProviderError(status, words, status in PASSING or status >= 500)
    kinds = [value.get(key) for key in ("code", "type", "status")] if isinstance(value, Mapping) else []
    text = " ".join([words, *(kind for kind in kinds if isinstance(kind, str))])
    return ProviderError(None, words, not words or _PASSING_WORDS.search(text) is not None)


def _error_value(body: Any) -> Any:
    """The part of a body that reports an error; something falsy if there is none."""
    body = body[0] if isinstance(body, list) and len(body) == 1 else body
    if not isinstance(body, Mapping):
        return None
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    for value in (body.get("error"), choice.get("error"), body.get("errors")):
        if value and value is not True:
            return value[0] if isinstance(value, list) else value
    is_error = body.get("object") == "error" or body.get("type") == "error" or body.get("error") is True
    return body if not choices and (is_error or body.get("message") or body.get("detail")) else None


def _status(value: Any) -> int | None:
    """An HTTP status among the codes of an error object."""
    if not isinstance(value, Mapping):
        return None
    for key in ("code", "status", "status_code"):
        code = value.get(key)
        if isinstance(code, str) and re.fullmatch(r"[45][0-9][0-9]", code):
            return int(code)
        if isinstance(code, int) and 400 <= code < 600:
            return code
    return None


def error_words(value: Any) -> str:
    """The provider's words in an error object or text, in one line, with the parameter that they are about."""
    parameter = ""
    for _ in range(_DEEPEST):
        if isinstance(value, str):
            words = " ".join(storable(value).text.split())
            return words if parameter in words else f"{words} ({parameter})"
        if isinstance(value, Mapping):
            if isinstance(value.get("param"), str):
                parameter = storable(value["param"]).text
            parts = (value.get(key) for key in _MESSAGE_KEYS)
            value = next((part for part in parts if part and isinstance(part, str | Mapping | list)), None)
        else:
            value = value[0] if isinstance(value, list) and value else None
    return ""


def advice(problem: ProviderError, endpoint: Endpoint, call: Call) -> str:
    """What the user can do about a refusal, as the end of a sentence.

    Args:
        problem: the refusal.
        endpoint: as it was asked; what it sets already is not advised.
        call: the question that was refused.
    """
    if problem.status in (401, 403, 404):
        return f"check model, base_url and {endpoint.api_key_env}"
    if problem.status == 402:
        return "look after the account, and run the same command again"
    remedies = [remedy for remedy in _remedies(problem.words.lower(), endpoint, call) if remedy]
    if remedies:
        return f"set {remedies[0]}"
    return "check model, base_url and the options (extra_body sets a parameter; one that is null is left out)"


def _remedies(words: str, endpoint: Endpoint, call: Call) -> list[str]:
    """The options that make up for what a refusal is about, the surest first; "" for one that does not."""
    limit, other = endpoint.token_limit, "max_completion_tokens"
    if limit == other:
        other = "max_tokens"
    has_system = any(role == "system" for role, _ in call.messages) and not endpoint.fold_system
    no_logprobs = call.top_logprobs and "logprob" in words
    too_few = _TOO_FEW.search(words) and "tokens" in words
    other_limit = _UNKNOWN.search(words) and limit in words
    no_temperature = endpoint.send_temperature and "temperature" in words
    no_system = has_system and _NO_SYSTEM.search(words)
    return [
        "the benchmark's option verdict: text (judge-card: --verdict text)" if no_logprobs else "",
        f"extra_body: {{{limit}: N}}, with as many tokens as the endpoint wants" if too_few else "",
        f"token_limit: {other} (judge-card: --token-limit {other})" if other_limit else "",
        "send_temperature: false (judge-card: --no-temperature)" if no_temperature else "",
        "fold_system: true (judge-card: --fold-system)" if no_system else "",
        "another reasoning_effort, or none" if endpoint.reasoning_effort and "reasoning" in words else "",
    ]
