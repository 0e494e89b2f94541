"""MT-Bench on its 80 official questions, with the official prompts and decoding, graded by the recipe's judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from benchmarks.mt_bench.verdict_single import REFERENCED, fill, prompt_name, rating, temperature
from benchmarks.shared import official_files as datadir
from benchmarks.shared.asking import answers
from harness.answer.reply import Call, Reply
from harness.benchmark import TEXTS_ALONE, Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row
from harness.errors import UserError
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from harness.store import user_files as files
from sail.types import Request

NAME, FOLDER = "mt_bench_official", "mt_bench"


class MTBenchOptions(BenchmarkOptions):
    """``limit``: first questions only (0: all 80). ``max_new_tokens``: of an answer, ``judge_tokens``: of a verdict."""

    max_new_tokens: int = Field(default=1024, gt=0)
    judge_tokens: int = Field(default=2048, gt=0)
    limit: int = Field(default=0, ge=0)


class OfficialQuestions(Benchmark):
    """The official questions, answered in both turns by the official decoding; what is asked of the judge follows.

    Answers are keyed alike in all modes, so that a second mode finds those of the first.
    """

    label = "official set"
    judged_by = "endpoint"
    needs = TEXTS_ALONE
    Options = MTBenchOptions
    options: MTBenchOptions

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        if self.options.limit:
            self.label = f"first {self.options.limit} questions"

    def _prompt(self, category: str, turn: int) -> str:
        """Name of the judge's prompt."""
        raise NotImplementedError

    def _files(self) -> list[Any]:
        names = ("question.jsonl", "reference_answer_gpt-4.jsonl", "judge_prompts.jsonl")
        return [
            datadir.locate(self.name, FOLDER, name, *([f"reference_answer/{name[17:]}"] if i == 1 else []))
            for i, name in enumerate(names)
        ]

    def protocol(self) -> dict[str, Any]:
        """Adds the question, reference and prompt files and the decoding."""
        self._judging()  # what the files lack is told before any work
        return {
            **super().protocol(),
            "set": datadir.sha256(*self._files()),
            "references": "gpt-4",
            "decoding": "temperature by category",
            "judge_temperature": 0,
        }

    def prompt_texts(self) -> list[str]:
        """First turns."""
        return [q["turns"][0] for q in self._questions()]

    def _questions(self) -> list[Row]:
        found = files.read_user_rows(self._files()[0], ["question_id", "category", "turns"])
        return found[: self.options.limit] if self.options.limit else found

    def _asked(self, policy: Any, dialogues: Sequence[list[dict[str, str]]], turn: int) -> list[Request]:
        return [
            Request(
                policy.render(messages),
                self.options.max_new_tokens,
                temperature(q["category"]),
                (NAME, q["question_id"], turn),
            )
            for q, messages in zip(self._questions(), dialogues, strict=True)
        ]

    def _first(self, policy: Any) -> list[Request]:
        return self._asked(policy, [[{"role": "user", "content": q["turns"][0]}] for q in self._questions()], 1)

    def requests(self, context: EvalContext) -> list[Request]:
        """First turns."""
        return self._first(context.policy)

    def _said(self, context: EvalContext, policy: Any) -> list[list[Row]]:
        """Both turns of each question; the second sees the policy's own first answer."""
        questions = self._questions()
        first = answers(context, self._first(policy), policy)
        dialogues = [
            [
                {"role": "user", "content": q["turns"][0]},
                {"role": "assistant", "content": a["text"]},
                {"role": "user", "content": q["turns"][1]},
            ]
            for q, a in zip(questions, first, strict=True)
        ]
        second = answers(context, self._asked(policy, dialogues, 2), policy)
        return [list(turns) for turns in zip(first, second, strict=True)]

    def answer(self, context: EvalContext) -> list[Row]:
        """Both turns of each question."""
        return [
            {"question_id": q["question_id"], "category": q["category"], "turns": turns}
            for q, turns in zip(self._questions(), self._said(context, context.policy), strict=True)
        ]

    def _judging(self) -> tuple[dict[Any, Row], dict[Any, list[str]], dict[str, Row]]:
        """Questions and references by id, and the judge's prompts by name.

        Raises:
            UserError: a reference or a prompt that is needed is not there.
        """
        paths = self._files()
        questions = {q["question_id"]: q for q in self._questions()}
        references = {
            r["question_id"]: r["choices"][0]["turns"] for r in files.read_user_rows(paths[1], ["question_id"])
        }
        prompts = {p["name"]: p for p in files.read_user_rows(paths[2], ["name", "system_prompt", "prompt_template"])}
        for number, question in questions.items():
            if question["category"] in REFERENCED and number not in references:
                raise UserError(f"{paths[1]} holds no reference answer to question {number}: add it")
            for name in (self._prompt(question["category"], turn) for turn in (1, 2)):
                if name not in prompts:
                    raise UserError(f"{paths[2]} holds no prompt {name!r}: take FastChat's own judge_prompts.jsonl")
        known = {i: references[i] if q["category"] in REFERENCED else [] for i, q in questions.items()}
        return questions, known, prompts

    def _call(self, prompt: Row, user: str) -> Call:
        return Call((("system", prompt["system_prompt"]), ("user", user)), max_tokens=self.options.judge_tokens)


class OfficialMTBench(OfficialQuestions):
    """Single-answer grading, references for math, reasoning and coding (arXiv 2306.05685; spec/evals 3)."""

    name = NAME
    title = "MT-Bench"
    summary = "the 80 official questions and prompts (--data-dir), graded by the recipe's judge behind an endpoint"

    def _prompt(self, category: str, turn: int) -> str:
        return prompt_name(category, turn)

    def protocol(self) -> dict[str, Any]:
        """Adds the scale."""
        return {**super().protocol(), "scale": "1-10"}

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """Two answers a question, each graded once."""
        count = 2 * len(self._questions())
        return EvalCost(count * self.options.max_new_tokens, count)

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """One judgment a turn, by the official prompts."""
        questions, references, prompts = self._judging()
        calls = []
        for row in rows:
            number, said = row["question_id"], [t["text"] for t in row["turns"]]
            for turn in (1, 2):
                prompt = prompts[self._prompt(row["category"], turn)]
                user = fill(prompt["prompt_template"], questions[number]["turns"], said, references[number], turn)
                calls.append(self._call(prompt, user))
        graded = [
            {"rating": rating(r.text) if r.text else None, "judgment": r.text} | told(r) for r in context.ask(calls)
        ]
        return [{**row, "ratings": graded[2 * i : 2 * i + 2]} for i, row in enumerate(rows)]

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """Mean over the valid ratings of both turns, as the official mean pools them; questions are resampled."""
        columns: Columns = {
            "id": [r["question_id"] for r in rows],
            "category": [r["category"] for r in rows],
            "turn_1": [r["ratings"][0]["rating"] for r in rows],
            "turn_2": [r["ratings"][1]["rating"] for r in rows],
            "length": [sum(len(t["text"]) for t in r["turns"]) / 2 for r in rows],
        }
        columns["rating"] = [[a, b] for a, b in zip(columns["turn_1"], columns["turn_2"], strict=True)]
        groups = by_category(columns, "rating")
        return groups, [
            metric("rating", "MT-Bench", "rating 1-10", 1, "pooled_mean", "rating", primary=True),
            metric("turn_1", "MT-Bench turn 1", "rating 1-10", 1, "mean", "turn_1"),
            metric("turn_2", "MT-Bench turn 2", "rating 1-10", 1, "mean", "turn_2"),
            metric("length", "MT-Bench length", "characters", 0, "mean", "length"),
            *(
                metric(name, f"MT-Bench {name}", "rating 1-10", 1, "pooled_mean", "rating", group=name)
                for name in groups
                if name != "items"
            ),
        ]


def told(reply: Reply) -> Row:
    """Which judge answered, and the fault if none did."""
    return {"judge": reply.model} | ({"error": reply.error} if reply.error else {})


def by_category(columns: Columns, name: str) -> dict[str, Columns]:
    """Columns of all questions (``items``), and one column of the questions of each category."""
    groups = {"items": columns}
    for category in dict.fromkeys(columns["category"]):
        chosen = [i for i, c in enumerate(columns["category"]) if c == category]
        groups[category] = {key: [columns[key][i] for i in chosen] for key in ("id", name)}
    return groups
