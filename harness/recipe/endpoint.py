"""How a model behind an OpenAI-compatible endpoint is named and reached."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.store.json_files import digest


class Endpoint(BaseModel):
    """How to reach a model.

    Attributes:
        model: its name; a dated snapshot, if there is one. Part of the identity.
        base_url: of the API; OpenAI's if absent. A hash of it is part of the identity.
        api_key_env: environment variable with the key.
        concurrency: requests at once.
        retries: of one request that failed.
        timeout: seconds for one request.
        max_requests: cap on requests, together with those that the store has recorded under a cap of this endpoint;
            0 for none.
        max_cost: the same for costs, in the currency of the prices.
        price_in: of a million tokens of input.
        price_out: of a million tokens of output.
        seed: sent with each request, for servers that heed one. Part of the identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = Field(default=16, gt=0)
    retries: int = Field(default=5, ge=0)
    timeout: float = Field(default=120.0, gt=0)
    max_requests: int = Field(default=0, ge=0)
    max_cost: float = Field(default=0.0, ge=0)
    price_in: float = Field(default=0.0, ge=0)
    price_out: float = Field(default=0.0, ge=0)
    seed: int | None = None

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.max_cost and not (self.price_in or self.price_out):
            raise ValueError("max_cost needs the prices: set price_in and price_out (for a million tokens)")
        return self

    def identity(self) -> dict[str, Any]:
        """What can change an answer. Results are published, host names are not: an endpoint is named by a hash."""
        identity = {"model": self.model, "endpoint": digest(self.base_url)}
        return identity if self.seed is None else identity | {"seed": self.seed}
