"""Arena-Hard on its official prompts against the official baseline answers, judged by the recipe's judge."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmarks.arena_hard.frozen_style import StyleRecord, read_style_record, style_of_record
from benchmarks.arena_hard.layouts import QuestionRow
from benchmarks.arena_hard.model_answers import read_answers
from benchmarks.arena_hard.prompts import JudgePrompts, holds_instructions, read_judge_prompts
from benchmarks.arena_hard.question_set import set_label
from benchmarks.arena_hard.score_columns import RANGES, columns_of_games, metrics_of_category
from benchmarks.arena_hard.style import markdown_counts
from benchmarks.arena_hard.verdict import RULES, is_asked_again, read_label
from benchmarks.shared.asking import greedy_requests, sample_answers
from benchmarks.shared.judgment_files import read_typed_rows
from benchmarks.shared.official_files import files_hash, official_file
from harness.answer.reply import Call, Reply
from harness.answer.verdict import without_thinking
from harness.benchmark import (
    TEXTS_ALONE,
    Benchmark,
    BenchmarkOptions,
    CallTokens,
    EvalContext,
    EvalCost,
    Row,
    Scored,
    published_if_absent,
)
from harness.errors import UserError
from harness.score.bradley_terry import Version, style_differences, style_offset
from harness.score.results import Columns, Metric
from sail.types import Request

FOLDER = "arena_hard"
AGAIN = "continue your judgment and finish by outputting a final verdict label"  # upstream's second turn of v0.1


class ArenaOptions(BenchmarkOptions):
    """``limit``: first prompts only (0: all). ``max_new_tokens``: of an answer, ``judge_tokens``: of a verdict.
    ``pool``: a frozen style that ``score arena_hard --save-pool`` wrote. ``length``: unit of an answer's length as a
    feature of style, of the official tokenizer (tiktoken's; its file is downloaded once), or characters."""

    max_new_tokens: int = Field(default=4096, gt=0)
    judge_tokens: int = Field(default=4096, gt=0)
    limit: int = Field(default=0, ge=0)
    pool: str = ""
    length: Literal["tokens", "characters"] = "tokens"


class Arena2Options(ArenaOptions):
    """``category``: one of the two kinds of prompts alone. ``judge_temperature``: 0 for gpt-4.1, 1 for gemini-2.5."""

    judge_tokens: int = Field(default=16000, gt=0)
    judge_temperature: float = Field(default=0, ge=0)
    category: Literal["hard_prompt", "creative_writing"] | None = None


class OfficialArenaHard(Benchmark):
    """Two games a prompt; score against the baseline with and without style control (arXiv 2406.11939).

    ``release``: the version. ``baselines``: the model that each category of prompts is compared with. ``tokenizer``:
    tiktoken's, for lengths. ``attempts``: how often a judge that names no label is asked.
    ``published``: prompts of the whole set.
    """

    summary = "the official prompts against the official baseline, style-controlled and raw, judged behind an endpoint"
    version = 2
    judged_by = "endpoint"
    needs = TEXTS_ALONE
    Options = ArenaOptions
    call_tokens = CallTokens(2000, 500)
    options: ArenaOptions
    release: ClassVar[Version]
    baselines: ClassVar[Mapping[str, str]]
    tokenizer: ClassVar[str]
    attempts: ClassVar[int] = 1
    published: ClassVar[int] = 500

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        self.label = f"first {self.options.limit} prompts" if self.options.limit else "all prompts"

    def _official_file(self, *names: str) -> Path:
        return official_file(self.name, FOLDER, *names)

    def _categories(self) -> list[str]:
        return list(self.baselines)

    def _question_file(self) -> Path:
        return self._official_file(f"question_{self.release}.jsonl", f"arena-hard-{self.release}/question.jsonl")

    def _answer_files(self) -> list[Path]:
        """The baseline's answers, by category."""
        models = [self.baselines[category] for category in self._categories()]
        folders = (f"model_answer_{self.release}", f"arena-hard-{self.release}/model_answer")
        return [self._official_file(*(f"{folder}/{model}.jsonl" for folder in folders)) for model in models]

    def _prompt_files(self) -> list[Path]:
        """The file with the template, and the one with the judge's instructions where the first lacks them."""
        raise NotImplementedError

    def _prompts(self) -> JudgePrompts:
        config, *code = self._prompt_files()
        return read_judge_prompts(config, self._categories(), *code)

    def _frozen_style(self) -> StyleRecord | None:
        return read_style_record(Path(self.options.pool)) if self.options.pool else None

    def _length_unit(self) -> str:
        if self.options.length == "tokens":
            _encoding(self.tokenizer)
            return f"tokens of {self.tokenizer}"
        return self.options.length

    def protocol(self) -> dict[str, Any]:
        """Adds the files, the decoding, the games, how verdicts are read, and where the style coefficients come from.
        The label says whether the questions are exactly the official ones."""
        pool = self._frozen_style()
        if pool:
            style_of_record(pool, self.release)
        self._prompts()
        self._baseline_texts(self._items())  # what the files lack is an error before any work
        return {
            **super().protocol(),
            "label": self._set_label(),
            "set": files_hash(self._question_file(), *self._answer_files()),
            "prompt": files_hash(*self._prompt_files()),
            "baseline": ", ".join(self.baselines[category] for category in self._categories()),
            "decoding": "greedy",
            "judge_temperature": self._judge_temperature(),
            "orders": "both",
            "attempts": self.attempts,
            "verdict": f"{'all labels agree' if RULES[self.release] == 'only' else 'the last label'}, thinking dropped",
            "strong_verdict": 3,
            "length": self._length_unit(),
            "pool": pool or "this model against the baseline, read at equal style",
            "interval": "conditional on the frozen pool" if pool else "style fitted again in each resample",
        }

    def _judge_temperature(self) -> float:
        return 0

    def _set_label(self) -> str:
        chosen, everything = self._items(), self._all_items()
        if len(chosen) < len(everything):
            return self.label
        return set_label((item["id"] for item in everything), self.release, self._category())

    def _category(self) -> str | None:
        """The one category that is asked; None for all."""
        return None

    def _items(self) -> list[Row]:
        """The questions asked: ``id``, ``category`` (of the baseline) and ``prompt``."""
        items = self._all_items()
        return items[: self.options.limit] if self.options.limit else items

    def _all_items(self) -> list[Row]:
        """The questions of the file, in the categories that are asked."""
        source, categories = self._question_file(), self._categories()
        items = []
        for line, row in read_typed_rows(source, QuestionRow):
            place = f"{source}, {line}"
            category = categories[0] if len(self.baselines) == 1 else str(row.category)
            if category not in self.baselines:
                names = ", ".join(self.baselines)
                raise UserError(f"{place}: the question has the category {category!r}: known are {names}")
            if row.text is None or not row.text.strip():
                raise UserError(
                    f"{place}: the question {row.question(place)} has no prompt: write it, or remove the row"
                )
            if category in categories:
                items.append({"id": row.question(place), "category": category, "prompt": row.text})
        return items

    def prompt_texts(self) -> list[str]:
        """The prompts."""
        return [item["prompt"] for item in self._items()]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One answer and two games a prompt; a game without a verdict can be asked for again."""
        count = published_if_absent(lambda: len(self._items()), self.published, self.options.limit)
        return EvalCost(count * self.options.max_new_tokens, 2 * count)

    def requests(self, context: EvalContext) -> list[Request]:
        """One greedy answer a prompt."""
        conversations = [[{"role": "user", "content": item["prompt"]}] for item in self._items()]
        return greedy_requests(context.policy, conversations, self.options.max_new_tokens)

    def answer(self, context: EvalContext) -> list[Row]:
        """The policy's answers by question."""
        answers = sample_answers(context, self.requests(context))
        return [
            {"id": item["id"], "category": item["category"], "prompt": item["prompt"], "answer": answer}
            for item, answer in zip(self._items(), answers, strict=True)
        ]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """Both games of each prompt, the first with the baseline as assistant A; v0.1 asks a judge that names no label
        once more, in the same conversation."""
        prompts, questions = self._prompts(), {item["id"]: item["prompt"] for item in self._items()}
        baselines = self._baseline_texts(rows)
        calls = []
        for row, baseline in zip(rows, baselines, strict=True):
            answer = row["answer"]["text"]
            for pair in ((baseline, answer), (answer, baseline)):
                messages = prompts.messages(row["category"], questions[row["id"]], *pair)
                calls.append(Call(messages, self._judge_temperature(), self.options.judge_tokens))
        games = [self._game(replies) for replies in self._ask_twice(calls, context)]
        return [
            {**row, "games": games[2 * i : 2 * i + 2], **self._style_columns(row["answer"]["text"], baseline)}
            for i, (row, baseline) in enumerate(zip(rows, baselines, strict=True))
        ]

    def _ask_twice(self, calls: list[Call], context: EvalContext) -> list[list[Reply]]:
        """Replies to each call; two where the first one names no label and the release allows a second attempt."""
        replies = [[reply] for reply in context.ask(calls)]
        undecided = [i for i, (reply,) in enumerate(replies) if self.attempts > 1 and is_asked_again(reply)]
        again = [_second_attempt(calls[i], replies[i][0].text or "") for i in undecided]
        for i, reply in zip(undecided, context.ask(again) if again else [], strict=True):
            replies[i].append(reply)
        return replies

    def _style_columns(self, answer: str, baseline: str) -> Row:
        """Style of both answers, so that scoring needs no file but the judged rows."""
        features = self._style_features(answer), self._style_features(baseline)
        columns: Row = {"style": features[0], "baseline_style": features[1], "baseline_length": len(baseline)}
        pool = self._frozen_style()
        if pool:
            d = style_differences(np.array(features[:1]), np.array(features[1:]), self.release)
            columns["offset"] = round(float(style_offset(d, style_of_record(pool, self.release))[0]), 8)
        return columns

    def _style_features(self, text: str) -> list[float]:
        """Length in the protocol's unit, headers, list items and bold spans."""
        tokens = self._length_unit() != "characters"
        length = len(_encoding(self.tokenizer).encode(text, disallowed_special=())) if tokens else len(text)
        return [float(length), *map(float, markdown_counts(text))]

    def _baseline_texts(self, rows: list[Row]) -> list[str]:
        """The baseline's answers to the questions of ``rows``."""
        by_category = {
            category: {key.question: answer.text for key, answer in read_answers(path).items()}
            for category, path in zip(self._categories(), self._answer_files(), strict=True)
        }
        missing = [row for row in rows if row["id"] not in by_category[row["category"]]]
        if missing:
            name = self.baselines[missing[0]["category"]]
            raise UserError(f"{name} has no answer to {len(missing)} questions of {self.name}, as {missing[0]['id']}")
        return [by_category[row["category"]][row["id"]] for row in rows]

    def _game(self, replies: list[Reply]) -> Row:
        """A game as it is stored: the verdict of the last reply, since those before it name no label, or why there is
        none; and all that the judge wrote."""
        label, reason = read_label(replies[-1], self.release)
        text = "\n".join(r.text for r in replies if r.text)
        game: Row = {"label": label, "judgment": text, "judge": replies[0].model}
        game |= {"reason": reason} if reason else {}
        return game | ({"error": replies[-1].error} if replies[-1].error else {})

    def score(self, rows: list[Row]) -> Scored:
        """A group of columns and its metrics for each category, as the official leaderboards keep them apart."""
        groups: dict[str, Columns] = {}
        metrics: list[Metric] = []
        for category in self._categories():
            inside = [r for r in rows if r["category"] == category]
            if inside:
                groups[category] = columns_of_games(inside, self.release)
                prefix = "" if category == next(iter(self.baselines)) else f"{category.split('_')[0]}_"
                frozen = "offset" in inside[0]
                metrics += metrics_of_category(category, prefix, self.title, self.release, frozen)
        return Scored(groups, metrics, RANGES)


class ArenaHard01(OfficialArenaHard):
    """v0.1: 500 prompts against gpt-4-0314."""

    name = "arena_hard_v0.1"
    title = "Arena-Hard v0.1"
    release = "v0.1"
    baselines = {"items": "gpt-4-0314"}
    tokenizer = "cl100k_base"
    attempts = 2

    def _prompt_files(self) -> list[Path]:
        return [self._official_file("judge_prompt_v0.1.yaml", "judge_config.yaml")]


class ArenaHard20(OfficialArenaHard):
    """v2.0: 500 hard prompts against o3-mini, 250 of creative writing against gemini-2.0-flash."""

    name = "arena_hard_v2.0"
    published = 750
    title = "Arena-Hard v2.0"
    release = "v2.0"
    baselines = {"hard_prompt": "o3-mini-2025-01-31", "creative_writing": "gemini-2.0-flash-001"}
    tokenizer = "o200k_base"
    Options = Arena2Options
    options: Arena2Options

    def _categories(self) -> list[str]:
        return [self.options.category] if self.options.category else list(self.baselines)

    def _category(self) -> str | None:
        return self.options.category

    def _judge_temperature(self) -> float:
        return self.options.judge_temperature

    def _prompt_files(self) -> list[Path]:
        config = self._official_file("judge_prompt_v2.0.yaml", "arena-hard-v2.0.yaml")
        if holds_instructions(config, self._categories()):
            return [config]
        return [config, self._official_file("judge_utils.py")]

    def protocol(self) -> dict[str, Any]:
        """A frozen pool belongs to one category.

        Raises:
            UserError: the options name a pool and no category.
        """
        if self.options.pool and not self.options.category:
            raise UserError(f"A pool of {self.name} belongs to one kind of prompts: set its option category too")
        return super().protocol()


def _second_attempt(call: Call, text: str) -> Call:
    """The same conversation, with the judge's answer ``text`` (its thinking dropped) and the request for a label."""
    return Call(
        (*call.messages, ("assistant", without_thinking(text) or text), ("user", AGAIN)),
        call.temperature,
        call.max_tokens,
    )


@lru_cache(maxsize=2)
def _encoding(name: str) -> Any:
    try:
        import tiktoken

        return tiktoken.get_encoding(name)
    except Exception as error:  # noqa: BLE001 - absent, or its file cannot be downloaded, by whatever client
        raise UserError(
            f"Counting tokens of {name} needs tiktoken and its file ({type(error).__name__}): "
            "install it, or set the benchmark's option length: characters"
        ) from None
