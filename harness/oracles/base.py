"""The contract of an oracle: what labels pairs in training, and what rewards answers in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from harness.store.row_cache import RowCache

Row = dict[str, Any]


class OracleOptions(BaseModel):
    """Options of an oracle that a recipe may set. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Oracle:
    """Base class of oracles: ``score`` for one that rates answers, ``prefer`` for one that compares them.

    ``pairwise`` oracles override ``prefer`` alone, and ask both orders of each pair. ``unit`` stands in the heading of
    the reward. ``cache``, where a run sets it, keeps paid answers over a kill; ``attach`` meters a model that the
    oracle loads.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "reward"
    pairwise: ClassVar[bool] = False
    Options: ClassVar[type[OracleOptions]] = OracleOptions

    def __init__(self, options: OracleOptions | None = None) -> None:
        self.options = options or self.Options()
        self.cache: RowCache | None = None
        self.attach: Callable[[Any], Any] = lambda model: model

    def identity(self) -> dict[str, Any]:
        """Everything that decides its answers; part of every key that depends on them. Cheap: no model is loaded."""
        return {"oracle": self.name, "version": self.version, **self.options.model_dump(mode="json")}

    def ready(self) -> None:
        """Fail now if it could not answer later; called before anything is trained."""

    def score(self, rows: Sequence[Row], texts: Sequence[str]) -> list[float]:
        """Reward of each text as an answer to the prompt of its row (``prompt`` and what the task adds)."""
        raise NotImplementedError

    def prefer(self, rows: Sequence[Row], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        """Probability that the first answer is better, NaN where there is no verdict; here 1, 0, or 0.5 for equal
        scores."""
        scores = self.score([*rows, *rows], [*firsts, *seconds])
        return [0.5 + 0.5 * ((a > b) - (a < b)) for a, b in zip(scores[: len(rows)], scores[len(rows) :], strict=True)]
