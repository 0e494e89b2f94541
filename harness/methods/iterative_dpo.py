"""``iterative-dpo``: rounds of sampling, labelling and DPO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.budget.forecast import Spending
from harness.methods.base import Method, PairConfig
from harness.train.context import TrainContext

PATIENCE = 4


class IterativeDPOConfig(PairConfig):
    """The budget is shared out over ``rounds``. ``samples``: answers a prompt, of which the best and the worst are the
    pair. ``prompts``, ``reference`` and ``begin``: see :class:`harness.train.rounds.Rounds`."""

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
        asked = {name: render(context.tokenizer, messages_of(p)) for name, p in context.prompts.items()}
        rows = [{"id": name, "prompt_ids": ids} for name, ids in asked.items()]
        return train_rounds(context, rounds, c.beta or context.train.beta, rows, self.pairs)

    def pairs(
        self, context: TrainContext, model: Any, number: int, needed: int, rows: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Best against worst of fresh samples, prompt after prompt until there are enough. Prompts whose answers all
        score alike are sampled again if the others run out, ``PATIENCE`` times at most."""
        from harness.train.rounds import sampled

        found: list[dict[str, Any]] = []
        tied: list[dict[str, Any]] = []
        fresh = list(rows)
        for attempt in range(PATIENCE):
            while fresh and len(found) < needed:
                part, fresh = fresh[: needed - len(found)], fresh[needed - len(found) :]
                answers = sampled(context, model, (number, attempt), part, self.config.samples)
                for place, row in enumerate(part):
                    pair = self.pair(context, row, answers[place * self.config.samples :][: self.config.samples])
                    (tied if pair is None else found).append(pair or row)
            fresh, tied = tied, []
        return found

    def pair(self, context: TrainContext, row: dict[str, Any], group: Sequence[Any]) -> dict[str, Any] | None:
        """The best and the worst of one prompt's answers by the training oracle; None if all score alike."""
        from harness.pairs.sampled import best_and_worst
        from harness.train.labels import decode

        texts = [decode(context, answer.ids) for answer in group]
        picked = best_and_worst(context.oracle.rank(context.prompts[row["id"]], texts))
        if picked is None:
            return None
        best, worst = (list(group[i].ids) for i in picked)
        return {"prompt_ids": row["prompt_ids"], "chosen_ids": best, "rejected_ids": worst}

    def spending(self) -> Spending:
        """All ``samples`` are sampled and labelled for each pair."""
        return Spending(stored=0, sampled=self.config.samples, labelled=self.config.samples, reference=2)
