"""How a model behind an OpenAI-compatible endpoint is named, reached and asked."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.errors import shown
from harness.store.json_files import digest, storable
from harness.store.redaction import keep_out

Thinking = Literal["strip", "keep"]
"""Whether the thoughts in a policy's answer are left out before it is judged and measured."""

ASKED_BY_DEFAULT: dict[str, Any] = {
    "token_limit": "max_tokens",
    "send_temperature": True,
    "fold_system": False,
    "reasoning_effort": None,
    "extra_body": {},
}
"""Options of :class:`Endpoint` that change the request. At its default, each is left out of identities and of recipes'
hashes: those of a recipe without it stay what they were before there were such options."""

OURS = ("model", "messages", "stream", "n")
"""Parameters that ``extra_body`` cannot hold: one readable reply to our question would not come."""


class Endpoint(BaseModel):
    """How to reach a model, and what it wants in a request. What can change an answer is part of the identity.

    Attributes:
        model: name of the model; a dated snapshot, if there is one. Part of the identity.
        base_url: address of the API, with the parameters of every request after a ``?`` where it wants some; OpenAI's
            if absent. A hash of it is part of the identity.
        api_key_env: environment variable that holds the key.
        concurrency: how many requests are open at once.
        retries: how often a request that failed is repeated.
        timeout: seconds for one request, until the last byte of its reply.
        max_requests: cap on requests, together with those that the store has recorded under a cap of this endpoint;
            0 for none.
        max_cost: the same cap for costs, in the currency of the prices.
        price_in: price of a million tokens of input.
        price_out: price of a million tokens of output.
        seed: sent with each request, for servers that heed one. Part of the identity.
        token_limit: how the endpoint calls the limit on an answer's tokens. Part of the identity, as all that follow.
        send_temperature: whether the temperature is sent; some models know their default alone.
        fold_system: whether a system turn is put before the text of the first user turn, for models that have none.
        reasoning_effort: sent if it is set, for models that reason.
        extra_body: further parameters of each request (published with the results). They win over all others; one that
            is null is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = Field(default=16, gt=0, le=1000)
    retries: int = Field(default=5, ge=0, le=1000)
    timeout: float = Field(default=120.0, gt=0, le=86_400)
    max_requests: int = Field(default=0, ge=0)
    max_cost: float = Field(default=0.0, ge=0, le=1e12)
    price_in: float = Field(default=0.0, ge=0, le=1e12)
    price_out: float = Field(default=0.0, ge=0, le=1e12)
    seed: int | None = None
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    send_temperature: bool = True
    fold_system: bool = False
    reasoning_effort: str | None = Field(default=None, min_length=1)
    extra_body: dict[str, JsonValue] = {}

    def model_post_init(self, context: Any) -> None:
        """Errors and logs of this process show none of its keys."""
        keep_out(self.api_key_env, self.base_url)

    @field_validator("model", "base_url", "reasoning_effort")
    @classmethod
    def _sendable(cls, value: str | None) -> str | None:
        if value is not None and storable(value).replaced:
            raise ValueError("it holds half of a surrogate pair or a NUL: repair the escape")
        return value

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/]", value):
            raise ValueError(f"{shown(value)} is no address: begin it with http:// or https://")
        return value

    @field_validator("extra_body")
    @classmethod
    def _sendable_body(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        ours = next((name for name in OURS if name in value), None)
        if ours:
            raise ValueError(f"{ours!r} is not to be set here: every request has its own")
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        except ValueError:
            raise ValueError("numbers must be finite") from None
        if storable(text).replaced:
            raise ValueError("it holds half of a surrogate pair: repair the escape")
        return value

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.max_cost and not (self.price_in or self.price_out):
            raise ValueError("max_cost needs the prices: set price_in and price_out (for a million tokens)")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        unused = {name for name in type(self)._left_out() if fields.get(name) == type(self).model_fields[name].default}
        return {name: value for name, value in fields.items() if name not in unused}

    @classmethod
    def _left_out(cls) -> tuple[str, ...]:
        """Fields that a record lacks where they have their default."""
        return tuple(ASKED_BY_DEFAULT)

    def identity(self) -> dict[str, Any]:
        """What can change an answer. Results are published, host names are not: an endpoint is named by a hash."""
        identity: dict[str, Any] = {"model": self.model, "endpoint": digest(self.base_url)}
        if self.seed is not None:
            identity["seed"] = self.seed
        request = {name: getattr(self, name) for name in ASKED_BY_DEFAULT}
        return identity | {name: value for name, value in request.items() if value != ASKED_BY_DEFAULT[name]}

    def request(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The body of a request as this endpoint wants it.

        Args:
            parameters: of a chat completion, under OpenAI's older names (``max_tokens``).
        """
        body = {"model": self.model, **({} if self.seed is None else {"seed": self.seed}), **parameters}
        if "max_tokens" in body:
            body[self.token_limit] = body.pop("max_tokens")
        if not self.send_temperature:
            body.pop("temperature", None)
        if self.fold_system:
            body["messages"] = without_system(body["messages"])
        if self.reasoning_effort is not None:
            body["reasoning_effort"] = self.reasoning_effort
        return {name: value for name, value in (body | self.extra_body).items() if value is not None}


class PolicyEndpoint(Endpoint):
    """A row of a recipe's ``endpoints:``: how to reach a policy.

    Attributes:
        thinking: whether thoughts in its answers are left out before these are judged; the recipe's ``thinking`` if
            absent. No part of the identity: the endpoint gives the same reply either way.
    """

    thinking: Thinking | None = None

    @classmethod
    def _left_out(cls) -> tuple[str, ...]:
        return (*super()._left_out(), "thinking")


def without_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """A conversation whose system turns stand before the text of its first user turn."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    others = [m for m in messages if m["role"] != "system"]
    if not system:
        return messages
    first = next((i for i, m in enumerate(others) if m["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(system)}, *others]
    folded = {"role": "user", "content": "\n\n".join([*system, others[first]["content"]])}
    return [*others[:first], folded, *others[first + 1 :]]
