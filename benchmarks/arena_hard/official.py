"""Arena-Hard on its official prompts against the official baseline answers, judged by the recipe's judge."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmarks.arena_hard.prompts import Prompts, holds_instructions, read_prompts
from benchmarks.arena_hard.score_files import frozen_style, question_id, saved_style, texts
from benchmarks.arena_hard.scoring import columns, metrics_of
from benchmarks.arena_hard.style import style
from benchmarks.arena_hard.verdict import label, label_v2, undecided
from benchmarks.shared import official_files as datadir
from benchmarks.shared.asking import answers, greedy
from harness.answer.reply import Call, Reply
from harness.benchmark import TEXTS_ALONE, Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row
from harness.errors import UserError
from harness.score.bradley_terry import Version, style_differences, style_offset
from harness.score.results import Columns, Metric
from harness.store import user_files as files
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
    """Two games a prompt; score against the baseline with and without style control (arXiv 2406.11939; spec/evals 2).

    ``baselines``: the model that each category of prompts is compared with.
    """

    summary = "the official prompts against the official baseline, style-controlled and raw, judged behind an endpoint"
    judged_by = "endpoint"
    needs = TEXTS_ALONE
    Options = ArenaOptions
    options: ArenaOptions
    release: ClassVar[Version]
    baselines: ClassVar[Mapping[str, str]]
    tokenizer: ClassVar[str]
    attempts: ClassVar[int] = 1

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        self.label = f"first {self.options.limit} prompts" if self.options.limit else "official set"

    def _place(self, *names: str) -> Path:
        return datadir.locate(self.name, FOLDER, *names)

    def _categories(self) -> list[str]:
        return list(self.baselines)

    def _question_file(self) -> Path:
        release = self.release
        return self._place(f"question_{release}.jsonl", f"arena-hard-{release}/question.jsonl")

    def _answer_files(self) -> list[Path]:
        return [
            self._place(f"model_answer_{self.release}/{m}.jsonl", f"arena-hard-{self.release}/model_answer/{m}.jsonl")
            for m in (self.baselines[c] for c in self._categories())
        ]

    def _prompt_files(self) -> list[Path]:
        """The file with the template, and the one with the judge's instructions where the first lacks them."""
        raise NotImplementedError

    def _prompts(self) -> Prompts:
        return read_prompts(self._prompt_files()[0], self._categories(), *self._prompt_files()[1:])

    def _pool(self) -> dict[str, Any] | None:
        return saved_style(Path(self.options.pool)) if self.options.pool else None

    def _unit(self) -> str:
        if self.options.length == "tokens":
            _encoding(self.tokenizer)
            return f"tokens of {self.tokenizer}"
        return self.options.length

    def protocol(self) -> dict[str, Any]:
        """Adds the files, the decoding, the games, and where the style coefficients come from."""
        pool = self._pool()
        if pool:
            frozen_style(pool, self.release)
        self._prompts()
        return {
            **super().protocol(),
            "set": datadir.sha256(self._question_file(), *self._answer_files()),
            "prompt": datadir.sha256(*self._prompt_files()),
            "baseline": ", ".join(self.baselines[c] for c in self._categories()),
            "decoding": "greedy",
            "judge_temperature": self._temperature(),
            "orders": "both",
            "attempts": self.attempts,
            "strong_verdict": 3,
            "length": self._unit(),
            "pool": pool or "this model against the baseline, read at equal style",
            "interval": "conditional on the frozen pool" if pool else "style fitted again in each resample",
        }

    def _temperature(self) -> float:
        return 0

    def _items(self) -> list[Row]:
        """The questions asked: ``id``, ``category`` (of the baseline) and ``prompt``."""
        source, known = self._question_file(), self._categories()
        found = []
        for row in files.read_user_rows(source):
            category = known[0] if len(self.baselines) == 1 else str(row.get("category"))
            if category not in self.baselines:
                raise UserError(f"{source} has a question of the category {category!r}: known are {', '.join(known)}")
            prompt = row["prompt"] if "prompt" in row else (row.get("turns") or [{}])[0].get("content")
            if not isinstance(prompt, str):
                raise UserError(f"{source}: the question {question_id(row, source)} has no prompt")
            if category in known:
                found.append({"id": question_id(row, source), "category": category, "prompt": prompt})
        return found[: self.options.limit] if self.options.limit else found

    def prompt_texts(self) -> list[str]:
        """The prompts."""
        return [item["prompt"] for item in self._items()]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One answer and two games a prompt; a game without a verdict can be asked for again."""
        count = len(self._items())
        return EvalCost(count * self.options.max_new_tokens, 2 * count)

    def requests(self, context: EvalContext) -> list[Request]:
        """One greedy answer a prompt."""
        turns = [[{"role": "user", "content": item["prompt"]}] for item in self._items()]
        return greedy(context.policy, turns, self.options.max_new_tokens)

    def answer(self, context: EvalContext) -> list[Row]:
        """The policy's answers by question."""
        found = answers(context, self.requests(context))
        return [
            {"id": item["id"], "category": item["category"], "answer": a}
            for item, a in zip(self._items(), found, strict=True)
        ]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """Both games of each prompt, the first with the baseline as assistant A; v0.1 asks a judge that names no label
        once more, in the same conversation."""
        prompts, asked = self._prompts(), {item["id"]: item["prompt"] for item in self._items()}
        theirs = self._baseline(rows)
        calls = []
        for row, other in zip(rows, theirs, strict=True):
            ours = row["answer"]["text"]
            for pair in ((other, ours), (ours, other)):
                messages = prompts.messages(row["category"], asked[row["id"]], *pair)
                calls.append(Call(messages, self._temperature(), self.options.judge_tokens))
        replies = context.ask(calls)
        said = [[r] for r in replies]
        unsure = [i for i, r in enumerate(replies) if self.attempts > 1 and r.text and undecided(r.text)]
        second = context.ask([_again(calls[i], replies[i].text or "") for i in unsure]) if unsure else []
        for i, reply in zip(unsure, second, strict=True):
            said[i].append(reply)
        games = [self._game(turns) for turns in said]
        return [
            {**row, "games": games[2 * i : 2 * i + 2], **self._looks(row["answer"]["text"], other)}
            for i, (row, other) in enumerate(zip(rows, theirs, strict=True))
        ]

    def _looks(self, ours: str, theirs: str) -> Row:
        """Style of both answers, so that scoring needs no file but the judged rows."""
        looks = self._look(ours), self._look(theirs)
        found: Row = {"style": looks[0], "baseline_style": looks[1], "baseline_length": len(theirs)}
        pool = self._pool()
        if pool:
            d = style_differences(np.array(looks[:1]), np.array(looks[1:]), self.release)
            found["offset"] = round(float(style_offset(d, frozen_style(pool, self.release))[0]), 8)
        return found

    def _baseline(self, rows: list[Row]) -> list[str]:
        """The baseline's answers to the questions of ``rows``."""
        found = {c: texts(p) for c, p in zip(self._categories(), self._answer_files(), strict=True)}
        by_question = {c: {q: text for (_, q), (text, _) in known.items()} for c, known in found.items()}
        missing = [r for r in rows if r["id"] not in by_question[r["category"]]]
        if missing:
            name = self.baselines[missing[0]["category"]]
            raise UserError(f"{name} has no answer to {len(missing)} questions of {self.name}, as {missing[0]['id']}")
        return [by_question[r["category"]][r["id"]] for r in rows]

    def _game(self, turns: list[Reply]) -> Row:
        """Verdict on all that the judge said in a game."""
        text = "\n".join(r.text for r in turns if r.text)
        found = {
            "label": (label if self.release == "v0.1" else label_v2)(text),
            "judgment": text,
            "judge": turns[0].model,
        }
        return found | ({"error": turns[-1].error} if turns[-1].error else {})

    def _look(self, text: str) -> list[float]:
        tokens = self._unit() != "characters"
        length = len(_encoding(self.tokenizer).encode(text, disallowed_special=())) if tokens else len(text)
        return [float(length), *(float(n) for n in style(text).values())]

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """A group of columns and its metrics for each category, as the official leaderboards keep them apart."""
        groups: dict[str, Columns] = {}
        metrics: list[Metric] = []
        for category in self._categories():
            chosen = [r for r in rows if r["category"] == category]
            if chosen:
                groups[category] = columns(chosen, self.release)
                prefix = "" if category == next(iter(self.baselines)) else f"{category.split('_')[0]}_"
                metrics += metrics_of(category, prefix, self.title, self.release, "offset" in chosen[0])
        return groups, metrics


class ArenaHard01(OfficialArenaHard):
    """v0.1: 500 prompts against gpt-4-0314."""

    name = "arena_hard_v0.1"
    title = "Arena-Hard v0.1"
    release = "v0.1"
    baselines = {"items": "gpt-4-0314"}
    tokenizer = "cl100k_base"
    attempts = 2

    def _prompt_files(self) -> list[Path]:
        return [self._place("judge_prompt_v0.1.yaml", "judge_config.yaml")]


class ArenaHard20(OfficialArenaHard):
    """v2.0: 500 hard prompts against o3-mini, 250 of creative writing against gemini-2.0-flash."""

    name = "arena_hard_v2.0"
    title = "Arena-Hard v2.0"
    release = "v2.0"
    baselines = {"hard_prompt": "o3-mini-2025-01-31", "creative_writing": "gemini-2.0-flash-001"}
    tokenizer = "o200k_base"
    Options = Arena2Options
    options: Arena2Options

    def _categories(self) -> list[str]:
        return [self.options.category] if self.options.category else list(self.baselines)

    def _temperature(self) -> float:
        return self.options.judge_temperature

    def _prompt_files(self) -> list[Path]:
        config = self._place("judge_prompt_v2.0.yaml", "arena-hard-v2.0.yaml")
        if holds_instructions(config, self._categories()):
            return [config]
        return [config, self._place("judge_utils.py")]

    def protocol(self) -> dict[str, Any]:
        """A frozen pool belongs to one category."""
        if self.options.pool and not self.options.category:
            raise UserError(f"A pool of {self.name} belongs to one kind of prompts: set its option category too")
        return super().protocol()


def _again(call: Call, said: str) -> Call:
    return Call((*call.messages, ("assistant", said), ("user", AGAIN)), call.temperature, call.max_tokens)


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
