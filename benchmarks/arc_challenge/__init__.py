"""ARC-Challenge, mini set: 60 science questions, 0-shot, accuracy normalised by the option's length."""

from __future__ import annotations

from typing import Any

from benchmarks.shared.mini_set import mini_set_hash, read_mini_set
from benchmarks.shared.multiple_choice import (
    ChoiceOptions,
    ChoiceQuestion,
    argmax,
    is_right,
    option_logps,
    reading_cost,
)
from harness.benchmark import Benchmark, EvalContext, EvalCost, Row, Scored
from harness.score.metrics import metric
from harness.score.results import Columns


class ARCChallenge(Benchmark):
    """Grade-school science (arXiv 1803.05457), scored by the likelihood of the option's text."""

    name = "arc_challenge"
    title = "ARC-Challenge"
    summary = "grade-school science, acc_norm and acc (mini: 60 items, 0-shot)"
    Options = ChoiceOptions
    options: ChoiceOptions

    def protocol(self) -> dict[str, Any]:
        """Adds the item set and the prompt form."""
        set_hash = mini_set_hash("arc_challenge", "test")
        return {**super().protocol(), "set": set_hash, "shots": 0, "prompt": "lm-eval arc_challenge v1, acc_norm"}

    def prompt_texts(self) -> list[str]:
        """The questions, without their options."""
        return [row["question"] for row in read_mini_set("arc_challenge", "test", self.options.limit)]

    def answer(self, context: EvalContext) -> list[Row]:
        """Log-likelihoods of the options' texts."""
        rows = read_mini_set("arc_challenge", "test", self.options.limit)
        questions = self._questions(rows)
        return [
            {"id": r["id"], "prompt": r["question"], "options": r["choices"]["text"]}
            | {"answer": r["choices"]["label"].index(r["answerKey"]), "logps": values}
            | _picks(r, values)
            for r, values in zip(rows, option_logps(context, questions), strict=True)
        ]

    def _questions(self, rows: list[Row]) -> list[ChoiceQuestion]:
        return [
            ChoiceQuestion(f"Question: {r['question']}\nAnswer:", [f" {t}" for t in r["choices"]["text"]]) for r in rows
        ]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One forward an option."""
        return reading_cost(self._questions(read_mini_set("arc_challenge", "test", self.options.limit)))

    def score(self, rows: list[Row]) -> Scored:
        """Accuracies in percent."""
        columns: Columns = {
            "id": [r["id"] for r in rows],
            "correct_norm": [is_right(r["picked_norm"], r["answer"], r["logps"]) for r in rows],
            "correct": [is_right(r["picked"], r["answer"], r["logps"]) for r in rows],
        }
        return Scored(
            {"items": columns},
            [
                metric("acc_norm", "ARC-C", "acc_norm %", 1, "percent", "correct_norm", primary=True),
                metric("acc", "ARC-C acc", "acc %", 1, "percent", "correct"),
            ],
        )


def _picks(row: Row, values: list[float]) -> dict[str, int]:
    """The option of the highest log-likelihood, and of the highest one by its characters."""
    lengths = [len(text) for text in row["choices"]["text"]]
    normed = [v / n for v, n in zip(values, lengths, strict=True)]
    return {"picked": argmax(values), "picked_norm": argmax(normed)}
