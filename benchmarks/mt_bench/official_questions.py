"""MT-Bench's 80 official questions, answered in both turns by the official decoding; what judging them needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from benchmarks.mt_bench.judge_prompts import REFERENCED, needed_fields, template_fields
from benchmarks.mt_bench.layouts import (
    JudgePrompt,
    Question,
    QuestionId,
    category_name,
    check_template,
    read_judge_prompts,
    read_questions,
    read_two_turn_answers,
)
from benchmarks.shared.asking import sample_answers, second_turn
from benchmarks.shared.official_files import files_hash, official_file
from harness.answer.chat import Messages
from harness.answer.reply import Call, Reply
from harness.benchmark import TEXTS_ALONE, Benchmark, BenchmarkOptions, EvalContext, Row
from harness.errors import UserError
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from sail.types import Request

if TYPE_CHECKING:
    from harness.answer.policy import Policy


FOLDER = "mt_bench"

OFFICIAL_IDS = frozenset(range(81, 161))
"""Ids of the 80 official questions."""

ANSWER_KEY = "mt_bench_official"
"""Names the noise of answers; the same in all modes, so that a second mode finds the answers of the first."""

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""The official sampling temperature by category; any other category is answered greedily."""


class MTBenchOptions(BenchmarkOptions):
    """``limit``: first questions only (0: all 80). ``max_new_tokens``: of an answer, ``judge_tokens``: of a verdict."""

    max_new_tokens: int = Field(default=1024, gt=0)
    judge_tokens: int = Field(default=2048, gt=0)
    limit: int = Field(default=0, ge=0)


class OfficialFiles(NamedTuple):
    """FastChat's files: questions, gpt-4's reference answers, the judge's prompts."""

    questions: Path
    references: Path
    prompts: Path


class JudgingMaterial(NamedTuple):
    """Questions by id; both turns of their references (empty where none is used) by id; the judge's prompts by name."""

    questions: dict[QuestionId, Question]
    references: dict[QuestionId, list[str]]
    prompts: dict[str, JudgePrompt]


class OfficialQuestions(Benchmark):
    """The official questions, answered in both turns by the official decoding. A mode adds what the judge is asked."""

    label = "official questions"
    version = 2
    judged_by = "endpoint"
    needs = TEXTS_ALONE
    Options = MTBenchOptions
    options: MTBenchOptions

    answer_slots: tuple[str, ...] = ()
    """Names of the answers in the templates of the judge's prompts."""

    def prompt_name(self, category: str, turn: int) -> str:
        """Name of the judge's prompt for a category and a turn (1 or 2)."""
        raise NotImplementedError

    def _files(self) -> OfficialFiles:
        references = ("reference_answer_gpt-4.jsonl", "reference_answer/gpt-4.jsonl")
        return OfficialFiles(
            official_file(self.name, FOLDER, "question.jsonl"),
            official_file(self.name, FOLDER, *references),
            official_file(self.name, FOLDER, "judge_prompts.jsonl"),
        )

    def protocol(self) -> dict[str, Any]:
        """Adds the question, reference and prompt files and the decoding."""
        self.judging_material()  # what the files lack is an error before any work
        return {
            **super().protocol(),
            "label": self._set_label(),
            "set": files_hash(*self._files()),
            "references": "gpt-4",
            "decoding": "temperature by category",
            "judge_temperature": 0,
        }

    def _set_label(self) -> str:
        """What the questions asked are. The official set is named so only if all 80 are asked, by their ids."""
        whole, limit = self._all_questions(), self.options.limit
        official = len(whole) == len(OFFICIAL_IDS) and {q.question_id for q in whole} == OFFICIAL_IDS
        if not limit or limit >= len(whole):
            return "official set" if official else f"{len(whole)} questions of your own"
        return f"first {limit} questions" if official else f"first {limit} of {len(whole)} questions of your own"

    def prompt_texts(self) -> list[str]:
        """First turns."""
        return [q.turns[0] for q in self.questions()]

    def longest_prompt(self) -> int:
        """A second turn sees the first one with its answer."""
        return 2 * super().longest_prompt() + self.options.max_new_tokens

    def _all_questions(self) -> list[Question]:
        return read_questions(self._files().questions)

    def questions(self) -> list[Question]:
        """The questions asked."""
        rows = self._all_questions()
        return rows[: self.options.limit] if self.options.limit else rows

    def _requests_to(self, policy: Policy, dialogues: Sequence[Messages], turn: int) -> list[Request]:
        return [
            Request(
                policy.render(messages),
                self.options.max_new_tokens,
                TEMPERATURES.get(q.category, 0.0),
                (ANSWER_KEY, q.question_id, turn),
            )
            for q, messages in zip(self.questions(), dialogues, strict=True)
        ]

    def _first_requests_to(self, policy: Policy) -> list[Request]:
        return self._requests_to(policy, [[{"role": "user", "content": text}] for text in self.prompt_texts()], 1)

    def requests(self, context: EvalContext) -> list[Request]:
        """First turns."""
        return self._first_requests_to(context.policy)

    def answers_of(self, context: EvalContext, policy: Policy) -> list[list[Row]]:
        """Both answers of a policy to each question; the second turn sees its own first answer."""
        questions = self.questions()
        first = sample_answers(context, self._first_requests_to(policy), policy)
        dialogues = [second_turn(q.turns, a["text"]) for q, a in zip(questions, first, strict=True)]
        second = sample_answers(context, self._requests_to(policy, dialogues, 2), policy)
        return [list(turns) for turns in zip(first, second, strict=True)]

    def answer(self, context: EvalContext) -> list[Row]:
        """Both turns of each question."""
        return [
            {"question_id": q.question_id, "category": q.category, "prompt": list(q.turns), "turns": turns}
            for q, turns in zip(self.questions(), self.answers_of(context, context.policy), strict=True)
        ]

    def judging_material(self) -> JudgingMaterial:
        """Questions, references and prompts.

        Raises:
            UserError: a file breaks its layout, or a reference, a turn of one or a prompt that is needed is not there.
        """
        files = self._files()
        questions = {q.question_id: q for q in self.questions()}
        referenced = [number for number, q in questions.items() if q.category in REFERENCED]
        references = read_two_turn_answers(files.references, referenced, "a reference answer")
        prompts = read_judge_prompts(files.prompts)
        for category in {q.category for q in questions.values()}:
            for turn in (1, 2):
                name = self.prompt_name(category, turn)
                if name not in prompts:
                    raise UserError(
                        f"{files.prompts} holds no prompt {name!r}: take FastChat's own judge_prompts.jsonl"
                    )
                referenced_too = category in REFERENCED
                fields = template_fields(self.answer_slots, turn, referenced=referenced_too)
                needed = needed_fields(self.answer_slots, turn, referenced=referenced_too)
                check_template(files.prompts, prompts[name], fields, needed)
        return JudgingMaterial(questions, {number: references.get(number, []) for number in questions}, prompts)

    def judge_call(self, prompt: JudgePrompt, user: str) -> Call:
        """The judge's conversation: the prompt's instruction, and the filled text of the user's turn."""
        return Call((("system", prompt.system_prompt), ("user", user)), max_tokens=self.options.judge_tokens)


def reply_facts(reply: Reply) -> Row:
    """Which judge answered, and the fault if none did, as they are stored beside a verdict."""
    return {"judge": reply.model} | ({"error": reply.error} if reply.error else {})


def groups_by_category(columns: Columns, name: str) -> dict[str, Columns]:
    """Columns of all questions (``items``), and the column ``name`` of the questions of each category."""
    groups = {"items": columns}
    for category in dict.fromkeys(columns["category"]):
        inside = [i for i, c in enumerate(columns["category"]) if c == category]
        groups[category_name(category)] = {key: [columns[key][i] for i in inside] for key in ("id", name)}
    return groups


def category_metrics(groups: dict[str, Columns], title: str, unit: str, kind: str, name: str) -> list[Metric]:
    """A metric for each category of :func:`groups_by_category`.

    Args:
        groups: all of them; ``items`` is left out.
        title: of the benchmark.
        unit: of the metrics.
        kind: their estimator.
        name: the column that it takes.
    """
    return [metric(group, f"{title} {group}", unit, 1, kind, name, group=group) for group in groups if group != "items"]
