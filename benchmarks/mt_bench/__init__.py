"""MT-Bench, mini set: two-turn questions over the eight categories, graded answer by answer."""

from __future__ import annotations

from typing import Any

from benchmarks.mt_bench.judge_prompts import REFERENCED
from benchmarks.shared.asking import ChatOptions, greedy_requests, sample_answers, second_turn
from benchmarks.shared.mini_set import mini_set_hash, read_mini_set
from harness.benchmark import TEXTS_ALONE, Benchmark, EvalContext, EvalCost, Row, Scored
from harness.judge.prompts import SCALE
from harness.score.metrics import metric
from harness.score.results import Columns
from sail.types import Request

_RANGE = (SCALE[0], SCALE[-1])


class MTBench(Benchmark):
    """Single-answer grading of both turns (arXiv 2306.05685), with references for math, reasoning and coding."""

    name = "mt_bench"
    title = "MT-Bench"
    summary = "two-turn questions, graded answer by answer (mini: 16 questions, ratings 1-9 by the local judge)"
    judged_by = "local"
    needs = TEXTS_ALONE
    Options = ChatOptions
    options: ChatOptions

    def protocol(self) -> dict[str, Any]:
        """Adds the question set, the decoding and the scale."""
        set_hash = mini_set_hash("mt_bench", "question", "reference_answer")
        return {**super().protocol(), "set": set_hash, "decoding": "greedy", "scale": "expected rating 1-9"}

    def _questions(self) -> list[Row]:
        return read_mini_set("mt_bench", "question", self.options.limit)

    def prompt_texts(self) -> list[str]:
        """First turns."""
        return [q["turns"][0] for q in self._questions()]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """Two answers a question, each rated once."""
        answers = 2 * len(self._questions())
        return EvalCost(answers * self.options.max_new_tokens, answers)

    def longest_prompt(self) -> int:
        """A second turn sees the first one with its answer."""
        return 2 * super().longest_prompt() + self.options.max_new_tokens

    def requests(self, context: EvalContext) -> list[Request]:
        """First turns."""
        conversations = [[{"role": "user", "content": text}] for text in self.prompt_texts()]
        return greedy_requests(context.policy, conversations, self.options.max_new_tokens)

    def answer(self, context: EvalContext) -> list[Row]:
        """Both turns; the second sees the policy's own first answer."""
        questions = self._questions()
        first = sample_answers(context, self.requests(context))
        dialogues = [second_turn(q["turns"], a["text"]) for q, a in zip(questions, first, strict=True)]
        second = sample_answers(context, greedy_requests(context.policy, dialogues, self.options.max_new_tokens))
        return [
            {"question_id": q["question_id"], "category": q["category"], "prompt": q["turns"], "turns": [a, b]}
            for q, a, b in zip(questions, first, second, strict=True)
        ]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """Rates each turn; the second is shown with the whole dialogue."""
        questions = {q["question_id"]: q for q in self._questions()}
        references = {r["question_id"]: r["choices"][0]["turns"] for r in read_mini_set("mt_bench", "reference_answer")}
        to_rate = []  # (question, answer, reference)
        for row in rows:
            turns = questions[row["question_id"]]["turns"]
            reference = references.get(row["question_id"], ["", ""]) if row["category"] in REFERENCED else ["", ""]
            first, second = (turn["text"] for turn in row["turns"])
            to_rate.append((turns[0], first, reference[0]))
            to_rate.append((f"{turns[0]}\n\n(Earlier answer: {first})\n\n{turns[1]}", second, reference[1]))
        verdicts = context.judge.rate(to_rate)
        return [{**row, "ratings": verdicts[2 * i : 2 * i + 2]} for i, row in enumerate(rows)]

    def score(self, rows: list[Row]) -> Scored:
        """Mean rating over both turns, and by turn; prompts are resampled as questions."""
        columns: Columns = {
            "id": [r["question_id"] for r in rows],
            "category": [r["category"] for r in rows],
            "rating": [sum(v["rating"] for v in r["ratings"]) / 2 for r in rows],
            "turn_1": [r["ratings"][0]["rating"] for r in rows],
            "turn_2": [r["ratings"][1]["rating"] for r in rows],
            "mass": [sum(v["mass"] for v in r["ratings"]) / 2 for r in rows],
        }
        return Scored(
            {"items": _rounded(columns)},
            [
                metric("rating", "MT-Bench", "rating 1-9", 1, "mean", "rating", primary=True),
                metric("turn_1", "MT-Bench turn 1", "rating 1-9", 1, "mean", "turn_1"),
                metric("turn_2", "MT-Bench turn 2", "rating 1-9", 1, "mean", "turn_2"),
                metric("judge_mass", "judge answers with a rating", "probability", 0, "mean", "mass"),
            ],
            {"rating": _RANGE, "turn_1": _RANGE, "turn_2": _RANGE},
        )


def _rounded(columns: Columns) -> Columns:
    return {k: [round(v, 6) if isinstance(v, float) else v for v in values] for k, values in columns.items()}
