"""``spin``: the chosen responses against the policy's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.methods.base import Method, PairConfig, Spending, TrainContext

if TYPE_CHECKING:
    from harness.train.rounds import Round


class SPINConfig(PairConfig):
    """``rounds``: over which the budget is shared out. ``prompts``: whether each round goes on through all prompts, or
    they are split over the rounds."""

    rounds: int = Field(default=2, ge=1)
    prompts: Literal["split", "all"] = "all"


class SPIN(Method):
    """Self-play fine-tuning: the data set's chosen response wins over a sample of the policy of the round before, which
    is also the reference. No preference label is used beyond the choice of the chosen response."""

    name = "spin"
    summary = "SPIN: chosen responses against the previous round's own samples, referring to that round"
    paper = "arXiv:2401.01335"
    published = "4 rounds from the supervised model, beta 0.1, learning rate 5e-7 falling to 1e-7"
    grid = {"beta": (0.1, 0.3)}
    Config = SPINConfig
    config: SPINConfig

    def train(self, context: TrainContext) -> Path | None:
        """Train all rounds."""
        from harness.train.rounds import Rounds, train_rounds

        rounds = Rounds(self.config.rounds, self.config.prompts, "previous", "continue")
        return train_rounds(context, rounds, self.config.beta or context.train.beta, context.pairs, self.pairs)

    def schedules(self) -> int:
        """One a round."""
        return self.config.rounds

    def pairs(self, context: TrainContext, model: Any, this_round: Round) -> list[dict[str, Any]]:
        """The stored chosen response against one fresh sample.

        Args:
            context: of the run.
            model: the policy of the round before.
            this_round: its number, the pairs that it needs and its stored pairs.
        """
        from harness.train.rounds import sample_answers

        rows = this_round.rows[: this_round.needed]
        answers = sample_answers(context, model, rows, 1, (this_round.number,))
        return [
            {"prompt_ids": row["prompt_ids"], "chosen_ids": row["chosen_ids"], "rejected_ids": list(answer.ids)}
            for row, (answer,) in zip(rows, answers, strict=True)
            if list(answer.ids) != row["chosen_ids"]
        ]

    def spending(self) -> Spending:
        """One sample a pair; the reference of a later round is not known in advance."""
        return Spending(sampled=1, reference=2)
