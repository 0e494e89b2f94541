"""``iterative-dpo``: rounds of sampling, labelling and DPO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.methods.base import Method, PairConfig, Spending, TrainContext

if TYPE_CHECKING:
    from harness.train.rounds import Round

PATIENCE = 4


class IterativeDPOConfig(PairConfig):
    """Options of iterative DPO.

    Attributes:
        rounds: over which the budget is shared out.
        samples: answers to each prompt; the best and the worst make the pair.
        prompts: ``all``: each round goes on through all prompts where the one before stopped; ``split``: each round has
            its own part of them.
        reference: the start policy, or the policy of the round before.
        begin: whether a round continues from the policy of the round before, or restarts from the start policy.
    """

    rounds: int = Field(default=2, ge=1)
    samples: int = Field(default=4, ge=2)
    prompts: Literal["split", "all"] = "all"
    reference: Literal["start", "previous"] = "start"
    begin: Literal["continue", "restart"] = "continue"


class IterativeDPO(Method):
    """Best-against-worst pairs of the policy of the round before (RLHFlow), on all training prompts."""

    name = "iterative-dpo"
    summary = "iterative DPO: each round samples from the policy before, labels by the oracle, trains with DPO"
    paper = "arXiv:2405.07863"
    published = "3 rounds, best and worst of 8, beta 0.1, learning rate 5e-7, fresh prompts a round"
    grid = {"beta": (0.1, 0.3)}
    Config = IterativeDPOConfig
    config: IterativeDPOConfig

    def train(self, context: TrainContext) -> Path | None:
        """Train all rounds."""
        from harness.answer.chat import messages_of, render
        from harness.train.rounds import Rounds, train_rounds

        c = self.config
        rounds = Rounds(c.rounds, c.prompts, c.reference, c.begin)
        rows = [{"id": i, "prompt_ids": render(context.tokenizer, messages_of(p))} for i, p in context.prompts.items()]
        return train_rounds(context, rounds, c.beta or context.train.beta, rows, self.pairs)

    def schedules(self) -> int:
        """One a round."""
        return self.config.rounds

    def pairs(self, context: TrainContext, model: Any, this_round: Round) -> list[dict[str, Any]]:
        """Best against worst of fresh samples, prompt after prompt until there are enough.

        Prompts whose answers all score alike are sampled again if the others run out, ``PATIENCE`` times at most.

        Args:
            context: of the run.
            model: the policy of the round before.
            this_round: its number, the pairs that it needs and its prompts.
        """
        from harness.train.rounds import sample_answers

        pairs: list[dict[str, Any]] = []
        tied: list[dict[str, Any]] = []
        waiting = list(this_round.rows)
        for attempt in range(PATIENCE):
            while waiting and len(pairs) < this_round.needed:
                missing = this_round.needed - len(pairs)
                batch, waiting = waiting[:missing], waiting[missing:]
                answers = sample_answers(context, model, batch, self.config.samples, (this_round.number, attempt))
                for row, group in zip(batch, answers, strict=True):
                    pair = self.pair(context, row, group)
                    (tied if pair is None else pairs).append(pair or row)
            waiting, tied = tied, []
        return pairs

    def pair(self, context: TrainContext, row: dict[str, Any], answers: Sequence[Any]) -> dict[str, Any] | None:
        """The best and the worst of one prompt's answers by the training oracle; None if all score alike.

        Args:
            context: of the run.
            row: the prompt: ``id`` and ``prompt_ids``.
            answers: completions (:class:`sail.types.Completion`).
        """
        from harness.pairs.sampled import best_and_worst
        from harness.train.labels import decode

        texts = [decode(context, answer.ids) for answer in answers]
        picked = best_and_worst(context.oracle.rank(context.prompts[row["id"]], texts))
        if picked is None:
            return None
        best, worst = (list(answers[i].ids) for i in picked)
        return {"prompt_ids": row["prompt_ids"], "chosen_ids": best, "rejected_ids": worst}

    def spending(self) -> Spending:
        """All ``samples`` are sampled and labelled for each pair."""
        return Spending(stored=0, sampled=self.config.samples, labelled=self.config.samples, reference=2)
