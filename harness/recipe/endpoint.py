"""How a model behind an OpenAI-compatible endpoint is named and reached."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.store.json_files import digest


class Endpoint(BaseModel):
    """How to reach a model. Only ``model`` and a hash of ``base_url`` belong to its identity.

    ``model``: a dated snapshot, if there is one. ``api_key_env``: variable with the key. ``concurrency``: requests at
    once. ``retries``: of one request that failed. ``timeout``: seconds for one request. ``max_requests`` and
    ``max_cost``: stop there (0: no cap), with all that the store has recorded under a cap of this endpoint; the cost is
    in the currency of ``price_in`` and ``price_out``, for a million tokens. ``seed``: sent with each request, for
    servers that heed one; part of the identity.
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
        found = {"model": self.model, "endpoint": digest(self.base_url)}
        return found if self.seed is None else found | {"seed": self.seed}
