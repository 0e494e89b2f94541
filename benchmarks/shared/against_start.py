"""Pairwise benchmarks: the policy's answer against the start policy's answer to the same prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.shared.asking import ChatOptions, greedy_requests, sample_answers
from benchmarks.shared.mini_set import mini_set_hash, read_mini_set
from benchmarks.shared.numbers import SHARE, probability
from harness.benchmark import TEXTS_ALONE, Benchmark, EvalContext, EvalCost, Row
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from harness.score.validity import Invalid, Range
from harness.store.json_files import digest
from sail.types import Request

if TYPE_CHECKING:
    from harness.answer.policy import Policy


NOT_ASKED = Invalid("equal answers, not asked")


class PairwiseAgainstStart(Benchmark):
    """Win rate against a baseline that is the start policy's own greedy answer. Equal answers are a draw.

    ``file``: name of the mini set's file. ``prompt_key``: the key of its rows that holds the prompt. ``ranges``: of the
    columns that all have.
    """

    judged_by = "local"
    needs = TEXTS_ALONE
    Options = ChatOptions
    options: ChatOptions
    ranges: ClassVar[dict[str, Range]] = {"preference": SHARE, "shown_first": SHARE, "mass": SHARE}
    file: ClassVar[str]
    prompt_key: ClassVar[str]

    def protocol(self) -> dict[str, Any]:
        """Adds the prompt set, the decoding and the baseline."""
        set_hash = mini_set_hash(self.name, self.file)
        return {**super().protocol(), "set": set_hash, "decoding": "greedy", "baseline": "start policy, greedy"}

    def prompt_texts(self) -> list[str]:
        """The prompts."""
        return [row[self.prompt_key] for row in read_mini_set(self.name, self.file, self.options.limit)]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One answer a prompt, compared in both orders unless it is the baseline itself."""
        answers = len(self.prompt_texts())
        return EvalCost(answers * self.options.max_new_tokens, 2 * answers * trained)

    def requests(self, context: EvalContext) -> list[Request]:
        """One greedy answer a prompt."""
        return self._requests_to(context.policy)

    def _requests_to(self, policy: Policy) -> list[Request]:
        conversations = [[{"role": "user", "content": prompt}] for prompt in self.prompt_texts()]
        return greedy_requests(policy, conversations, self.options.max_new_tokens)

    def answer(self, context: EvalContext) -> list[Row]:
        """The policy's answers, with the baseline's beside them."""
        answers = sample_answers(context, self.requests(context))
        baselines = sample_answers(context, self._requests_to(context.start), context.start)
        return [
            {"id": digest(prompt), "prompt": prompt, "answer": answer, "baseline": baseline}
            for prompt, answer, baseline in zip(self.prompt_texts(), answers, baselines, strict=True)
        ]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """Both orders; identical answers are not sent to the judge."""
        different = [i for i, r in enumerate(rows) if r["answer"]["text"] != r["baseline"]["text"]]
        verdicts = context.judge.compare([_comparison(rows[i]) for i in different])
        by_place = dict(zip(different, verdicts, strict=True))
        return [{**row, "verdict": by_place.get(i)} for i, row in enumerate(rows)]

    def columns(self, rows: list[Row]) -> Columns:
        """Columns that all pairwise benchmarks have. Lengths in characters."""
        return {
            "id": [r["id"] for r in rows],
            "preference": [probability(r["verdict"]["first"]) if r["verdict"] else 0.5 for r in rows],
            "shown_first": [probability(r["verdict"]["shown_first"]) if r["verdict"] else NOT_ASKED for r in rows],
            "mass": [probability(r["verdict"]["mass"]) if r["verdict"] else NOT_ASKED for r in rows],
            "length": [len(r["answer"]["text"]) for r in rows],
            "baseline_length": [len(r["baseline"]["text"]) for r in rows],
            "tokens": [r["answer"]["tokens"] for r in rows],
            "baseline_tokens": [r["baseline"]["tokens"] for r in rows],
        }

    def judge_metrics(self) -> list[Metric]:
        """Diagnostics of the judge on these very verdicts."""
        return [
            metric("length", f"{self.title} length", "characters", 0, "mean", "length"),
            metric("shown_first", "judge's share for the first slot", "probability", 0, "mean", "shown_first"),
            metric("judge_mass", "judge answers A or B", "probability", 0, "mean", "mass"),
        ]


def _comparison(row: Row) -> tuple[str, str, str]:
    return row["prompt"], row["answer"]["text"], row["baseline"]["text"]
