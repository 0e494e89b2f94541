"""``none``: for imported pairs, as long as nothing has to score other answers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.answer.chat import Prompt
from harness.errors import UserError
from harness.oracles.base import Oracle

NONE = "none"


class NoOracle(Oracle):
    """Refuses to score."""

    name = NONE
    summary = "no oracle: enough for offline methods on imported pairs with one trial and no reward in evaluation"

    def score(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """Never scores.

        Raises:
            UserError: always.
        """
        raise UserError("The recipe has no oracle, and an answer was to be scored: set oracle: in the recipe")
