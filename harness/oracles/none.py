"""``none``: for pairs that somebody brings, while no question is asked about other answers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import UserError
from harness.oracles.base import Oracle, Row

NONE = "none"


class NoOracle(Oracle):
    """Refuses to score."""

    name = NONE
    summary = "no oracle: enough for offline methods on brought pairs with one trial and no reward in evaluation"

    def score(self, rows: Sequence[Row], texts: Sequence[str]) -> list[float]:
        """Always an error."""
        raise UserError("The recipe has no oracle, and an answer was to be scored: set oracle: in the recipe")
