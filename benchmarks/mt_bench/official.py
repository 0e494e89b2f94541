"""MT-Bench on its 80 official questions, with the official prompts and decoding, graded by the recipe's judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from benchmarks import datadir
from benchmarks.common import answers
from benchmarks.mt_bench.grading import REFERENCED, fill, prompt_name, rating, temperature
from harness import files
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, Row, metric
from harness.judge.client import Call
from harness.results import Columns, Metric
from sail.types import Request

NAME, FOLDER = "mt_bench_official", "mt_bench"


class MTBenchOptions(BenchmarkOptions):
    """``limit``: first questions only (0: all 80). ``max_new_tokens``: of an answer, ``judge_tokens``: of a verdict."""

    max_new_tokens: int = Field(default=1024, gt=0)
    judge_tokens: int = Field(default=2048, gt=0)
    limit: int = Field(default=0, ge=0)


class OfficialMTBench(Benchmark):
    """Single-answer grading, references for math, reasoning and coding (arXiv 2306.05685; spec/evals 3)."""

    name = NAME
    title = "MT-Bench"
    summary = "the 80 official questions and prompts (--data-dir), graded by the recipe's judge behind an endpoint"
    label = "official set"
    judged = True
    by_text = True
    by_endpoint = True
    Options = MTBenchOptions
    options: MTBenchOptions

    def _files(self) -> list[Any]:
        names = ("question.jsonl", "reference_answer_gpt-4.jsonl", "judge_prompts.jsonl")
        return [
            datadir.locate(NAME, FOLDER, name, *([f"reference_answer/{name[17:]}"] if i == 1 else []))
            for i, name in enumerate(names)
        ]

    def protocol(self) -> dict[str, Any]:
        """Adds the question, reference and prompt files, the decoding and the scale."""
        return {
            **super().protocol(),
            "set": datadir.sha256(*self._files()),
            "references": "gpt-4",
            "decoding": "temperature by category",
            "judge_temperature": 0,
            "scale": "1-10",
        }

    def asked(self) -> list[str]:
        """First turns."""
        return [q["turns"][0] for q in self._questions()]

    def _questions(self) -> list[Row]:
        found = files.rows(self._files()[0], ["question_id", "category", "turns"])
        return found[: self.options.limit] if self.options.limit else found

    def predicted(self, prompts: int, trained: bool) -> tuple[int, int]:
        """Two answers a question, each graded once."""
        count = 2 * len(self._questions())
        return count * self.options.max_new_tokens, count

    def _asked(self, context: EvalContext, dialogues: Sequence[list[dict[str, str]]], turn: int) -> list[Request]:
        return [
            Request(
                context.policy.render(messages),
                self.options.max_new_tokens,
                temperature(q["category"]),
                (NAME, q["question_id"], turn),
            )
            for q, messages in zip(self._questions(), dialogues, strict=True)
        ]

    def requests(self, context: EvalContext) -> list[Request]:
        """First turns."""
        return self._asked(context, [[{"role": "user", "content": q["turns"][0]}] for q in self._questions()], 1)

    def answer(self, context: EvalContext) -> list[Row]:
        """Both turns; the second sees the policy's own first answer."""
        questions = self._questions()
        first = answers(context, self.requests(context))
        dialogues = [
            [
                {"role": "user", "content": q["turns"][0]},
                {"role": "assistant", "content": a["text"]},
                {"role": "user", "content": q["turns"][1]},
            ]
            for q, a in zip(questions, first, strict=True)
        ]
        second = answers(context, self._asked(context, dialogues, 2))
        return [
            {"question_id": q["question_id"], "category": q["category"], "turns": [a, b]}
            for q, a, b in zip(questions, first, second, strict=True)
        ]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """One judgment a turn, by the official prompts."""
        paths = self._files()
        questions = {q["question_id"]: q for q in self._questions()}
        references = {r["question_id"]: r["choices"][0]["turns"] for r in files.rows(paths[1], ["question_id"])}
        prompts = {p["name"]: p for p in files.rows(paths[2], ["name", "system_prompt", "prompt_template"])}
        calls = []
        for row in rows:
            q, said = questions[row["question_id"]], [t["text"] for t in row["turns"]]
            for turn in (1, 2):
                prompt = prompts[prompt_name(row["category"], turn)]
                known = references.get(row["question_id"], []) if row["category"] in REFERENCED else []
                user = fill(prompt["prompt_template"], q["turns"], said, known, turn)
                messages = (("system", prompt["system_prompt"]), ("user", user))
                calls.append(Call(messages, max_tokens=self.options.judge_tokens))
        replies = context.ask(calls)
        graded = [
            {
                "rating": rating(r.text) if r.text else None,
                "judgment": r.text,
                "judge": r.model,
                **({"error": r.error} if r.error else {}),
            }
            for r in replies
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
        groups = {"items": columns}
        for name in dict.fromkeys(columns["category"]):
            chosen = [i for i, c in enumerate(columns["category"]) if c == name]
            groups[name] = {"id": [columns["id"][i] for i in chosen], "rating": [columns["rating"][i] for i in chosen]}
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
