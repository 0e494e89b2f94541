"""MT-Bench's single-answer mode on the official questions, graded by the recipe's judge."""

from __future__ import annotations

from typing import Any

from benchmarks.mt_bench.judge_prompts import fill_prompt, single_prompt_name
from benchmarks.mt_bench.official_questions import (
    OfficialQuestions,
    category_metrics,
    groups_by_category,
    reply_facts,
)
from benchmarks.mt_bench.verdict_single import RATING_RULE, SCALE, read_rating
from harness.answer.reply import Reply
from harness.benchmark import CallTokens, EvalContext, EvalCost, Row, Scored, published_if_absent
from harness.score.metrics import metric
from harness.score.results import Columns
from harness.score.validity import NO_VALUE, Invalid, value_or_reason


class OfficialMTBench(OfficialQuestions):
    """Single-answer grading, references for math, reasoning and coding (arXiv 2306.05685)."""

    name = "mt_bench_official"
    call_tokens = CallTokens(1000, 250)
    title = "MT-Bench"
    summary = "the 80 official questions and prompts (--data-dir), graded by the recipe's judge behind an endpoint"

    answer_slots = ("answer",)

    def prompt_name(self, category: str, turn: int) -> str:
        """Of the single-answer prompts."""
        return single_prompt_name(category, turn)

    def protocol(self) -> dict[str, Any]:
        """Adds the scale, and how a verdict is read."""
        return {**super().protocol(), "scale": "1-10", "verdict": RATING_RULE}

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """Two answers a question, each graded once."""
        count = 2 * published_if_absent(lambda: len(self.questions()), 80, self.options.limit)
        return EvalCost(count * self.options.max_new_tokens, count)

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """One judgment a turn, by the official prompts."""
        questions, references, prompts = self.judging_material()
        calls = []
        for row in rows:
            number, answer = row["question_id"], [turn["text"] for turn in row["turns"]]
            for turn in (1, 2):
                prompt = prompts[self.prompt_name(row["category"], turn)]
                question, template = questions[number].turns, prompt.prompt_template
                user = fill_prompt(template, question, {"answer": answer}, references[number], turn)
                calls.append(self.judge_call(prompt, user))
        ratings = [_rating(reply) for reply in context.ask(calls)]
        return [{**row, "ratings": ratings[2 * i : 2 * i + 2]} for i, row in enumerate(rows)]

    def score(self, rows: list[Row]) -> Scored:
        """Mean over the valid ratings of both turns, as the official mean pools them; questions are resampled. Ratings
        outside 1-10 are not valid."""
        columns: Columns = {
            "id": [r["question_id"] for r in rows],
            "category": [r["category"] for r in rows],
            "turn_1": [_valid_rating(r["ratings"][0]) for r in rows],
            "turn_2": [_valid_rating(r["ratings"][1]) for r in rows],
            "length": [sum(len(t["text"]) for t in r["turns"]) / 2 for r in rows],
        }
        columns["rating"] = [[a, b] for a, b in zip(columns["turn_1"], columns["turn_2"], strict=True)]
        groups = groups_by_category(columns, "rating")
        return Scored(
            groups,
            [
                metric("rating", "MT-Bench", "rating 1-10", 1, "pooled_mean", "rating", primary=True),
                metric("turn_1", "MT-Bench turn 1", "rating 1-10", 1, "mean", "turn_1"),
                metric("turn_2", "MT-Bench turn 2", "rating 1-10", 1, "mean", "turn_2"),
                metric("length", "MT-Bench length", "characters", 0, "mean", "length"),
                *category_metrics(groups, "MT-Bench", "rating 1-10", "pooled_mean", "rating"),
            ],
        )


def _rating(reply: Reply) -> Row:
    """A judgment as it is stored."""
    rating, reason = read_rating(reply)
    return {"rating": rating, "reason": reason, "judgment": reply.text} | reply_facts(reply)


def _valid_rating(judgment: Row) -> float | Invalid:
    if judgment["rating"] is None:
        return Invalid(judgment.get("reason") or NO_VALUE)
    return value_or_reason(judgment["rating"], SCALE)
