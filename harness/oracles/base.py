"""The contract of an oracle: what labels pairs in training, and what rewards answers in evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from harness.answer.chat import Prompt
from harness.errors import Problem
from harness.recipe.recipe import CHAT_DATE

if TYPE_CHECKING:
    from harness.store.row_cache import RowCache


class OracleOptions(BaseModel):
    """Options of an oracle that a recipe may set. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class NoVerdict(float):
    """NaN with the reason why an oracle has no verdict."""

    reason: str

    def __new__(cls, reason: str) -> NoVerdict:
        """Make one; ``reason`` is a few words, such as *empty reply*."""
        value = super().__new__(cls, "nan")
        value.reason = reason
        return value


class Oracle:
    """Base class of oracles.

    **To implement**, in this order:

    1. ``name`` and ``summary``: how recipes and listings call it.
    2. :meth:`score`, for an oracle that rates single answers; or ``pairwise = True`` and :meth:`prefer`, for one that
       compares two answers. A pairwise oracle asks about both orders of each pair and has no :meth:`score`.

    **Optional**, in the order in which authors have wanted them:

    * ``Options``: settings that a recipe may give.
    * ``unit``: the word for its rewards in the headings of tables.
    * ``version``: raise it when the code changes an answer.
    * :meth:`identity`: override it if the options say too much (an API key's variable) or too little (a model's
      folder, whose files may change).
    * :meth:`ready`: say early, and without loading a model, why it could not answer later.
    * :meth:`load`: load what it answers with, or fail early.
    * :meth:`check_prompts`: fail early for the prompts whose answers it will be asked about.

    A run sets three attributes that an oracle may use:

    * ``cache``: keeps answers that cost something, so that a run that is started again does not pay twice.
    * ``attach``: pass a model that the oracle loads through it, so that the model's work is metered.
    * ``chat_date``: what an oracle's own chat template writes for today's date.
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
        self.chat_date = CHAT_DATE

    def score(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """Reward of each text as an answer to the prompt of its row (``prompt`` and what the task adds); finite, or NaN
        where there is none."""
        raise NotImplementedError

    def prefer(self, rows: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        """Probability that the first answer is better, for each pair. The default compares scores: 1, 0, or 0.5 if
        they are equal; NaN where one of them is not finite.

        Args:
            rows: the prompt of each pair.
            firsts: one answer to each prompt.
            seconds: another answer to each prompt.

        Returns:
            Probabilities in [0, 1]; NaN where there is no verdict, as :class:`NoVerdict` where the reason is known.
        """
        scores = self.score([*rows, *rows], [*firsts, *seconds])
        return [_preference(a, b) for a, b in zip(scores[: len(rows)], scores[len(rows) :], strict=True)]

    def identity(self) -> dict[str, Any]:
        """Everything that decides its answers, as JSON. It is part of every key that depends on them, and must be
        cheap: no model is loaded."""
        return {"oracle": self.name, "version": self.version, **self.options.model_dump(mode="json")}

    def ready(self) -> list[Problem]:
        """Why it could not answer on this machine; empty if nothing is known that speaks against it. Called before any
        work, by ``plan`` too: no model is loaded, and an endpoint is sent one small request at most."""
        return []

    def load(self) -> None:
        """Load what it answers with, or raise an error now if it could not answer later. Called before anything is
        trained, in the process that works."""

    def check_prompts(self, rows: Sequence[Prompt]) -> None:
        """Raise an error now if it could rate answers to none of these prompts. Called before anything is trained."""


def _preference(first: float, second: float) -> float:
    """1, 0 or one half by two rewards; NaN, with its reason, where one of them is no finite number."""
    if not (math.isfinite(first) and math.isfinite(second)):
        return next((score for score in (first, second) if isinstance(score, NoVerdict)), math.nan)
    return 0.5 + 0.5 * ((first > second) - (first < second))
