"""MMLU, mini set: 57 items, one a subject, 0-shot, accuracy by log-likelihood of the letter."""

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

LETTERS = ("A", "B", "C", "D")


def zero_shot_prompt(row: Row) -> str:
    """lm-eval's 0-shot prompt of an item."""
    subject = row["subject"].replace("_", " ")
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=True))
    head = f"The following are multiple choice questions (with answers) about {subject}."
    return f"{head}\n\n{row['question'].strip()}\n{options}\nAnswer:"


class MMLU(Benchmark):
    """Knowledge over 57 subjects (arXiv 2009.03300): what alignment may have cost."""

    name = "mmlu"
    title = "MMLU"
    summary = "multiple choice over 57 subjects, accuracy (mini: one item a subject, 0-shot)"
    Options = ChoiceOptions
    options: ChoiceOptions

    def protocol(self) -> dict[str, Any]:
        """Adds the item set and the prompt form."""
        return {
            **super().protocol(),
            "set": mini_set_hash("mmlu", "test"),
            "shots": 0,
            "prompt": "lm-eval mmlu v1, acc",
        }

    def prompt_texts(self) -> list[str]:
        """The questions, without their options."""
        return [row["question"] for row in read_mini_set("mmlu", "test", self.options.limit)]

    def answer(self, context: EvalContext) -> list[Row]:
        """Log-likelihoods of the four letters."""
        rows = read_mini_set("mmlu", "test", self.options.limit)
        logps = option_logps(context, self._questions(rows))
        return [
            {"id": r["subject"], "prompt": zero_shot_prompt(r), "answer": r["answer"], "logps": values}
            | {"picked": argmax(values)}
            for r, values in zip(rows, logps, strict=True)
        ]

    def _questions(self, rows: list[Row]) -> list[ChoiceQuestion]:
        options = [f" {letter}" for letter in LETTERS]
        return [ChoiceQuestion(zero_shot_prompt(r), options) for r in rows]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One forward a question."""
        return reading_cost(self._questions(read_mini_set("mmlu", "test", self.options.limit)), single_tokens=True)

    def score(self, rows: list[Row]) -> Scored:
        """Accuracy in percent."""
        correct = [is_right(r["picked"], r["answer"], r["logps"]) for r in rows]
        columns: Columns = {"id": [r["id"] for r in rows], "correct": correct}
        return Scored({"items": columns}, [metric("acc", "MMLU", "acc %", 1, "percent", "correct", primary=True)])
