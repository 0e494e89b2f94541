"""How a budget is written in a recipe or in ``named.yaml``: one limited axis, and caps on others."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Axis = Literal["steps", "pairs", "train_tokens", "generated_tokens", "oracle_calls", "flops", "seconds"]

Limit = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]


class Strict(BaseModel):
    """A part of a recipe: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BudgetSpec(Strict):
    """A limit on one axis; every method of a comparison stops at the first step boundary that reaches it, or that
    reaches a cap on another axis.

    Attributes:
        axis: what is matched.
        limit: how much of it each run may spend.
        caps: limits on other axes, by axis.
        version: raise it when the limits change, so that older results stay apart.
        summary: one line for listings.
    """

    axis: Axis = "pairs"
    limit: Limit
    caps: dict[Axis, Limit] = {}
    version: int = Field(default=1, gt=0)
    summary: str = Field(default="", max_length=2000)

    @field_validator("limit")
    @classmethod
    def _whole(cls, value: float) -> float:
        """A whole number stays one, so that keys do not depend on how it was written."""
        return int(value) if value == int(value) else value

    @field_validator("caps")
    @classmethod
    def _whole_caps(cls, value: dict[Axis, float]) -> dict[Axis, float]:
        return {axis: int(v) if v == int(v) else v for axis, v in value.items()}

    @model_validator(mode="after")
    def _other_axes(self) -> BudgetSpec:
        if self.axis in self.caps:
            raise ValueError(f"caps names {self.axis!r}, the matched axis: lower its limit instead")
        return self


@cache
def named_budgets() -> dict[str, BudgetSpec]:
    """The budgets that ship with the package (``harness/budget/named.yaml``)."""
    text = (files("harness.budget") / "named.yaml").read_text(encoding="utf-8")
    return {name: BudgetSpec.model_validate(entry) for name, entry in yaml.safe_load(text).items()}
