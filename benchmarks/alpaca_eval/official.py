"""AlpacaEval 2 on its official instructions, baseline and prompt, judged by the recipe's judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from benchmarks.alpaca_eval.evaluation_set import (
    OFFICIAL_COUNT,
    SET_FILES,
    EvaluationSet,
    is_official,
    read_evaluation_set,
    read_set_rows,
)
from benchmarks.alpaca_eval.verdict import (
    BASELINE_WINS,
    DRAW,
    NEITHER,
    VerdictSource,
    is_switched,
    read_preference,
)
from benchmarks.shared.asking import fill_template, sample_answers
from benchmarks.shared.official_files import files_hash, local_file, official_file, packaged_file
from harness.answer.reply import Call, Reply
from harness.answer.verdict import CUT, EMPTY_REPLY, NO_LOGPROBS
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
from harness.score.metrics import metric
from harness.score.results import Columns
from harness.score.validity import NO_VALUE, Invalid
from harness.store import user_files
from sail.types import Request

NAME, FOLDER = "alpaca_eval_2", "alpaca_eval"
PACKAGED_PROMPT = "evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
PROMPT_FILES = ("judge_prompt_alpaca_eval_clf.txt", "alpaca_eval_clf.txt")

LACKS_LOGPROBS = (NO_LOGPROBS, NEITHER, EMPTY_REPLY, CUT)
"""Reasons that a judge without log-probabilities gives to all its verdicts."""

TEXT_HINT = f" (a judge that gives none takes {NAME}: {{verdict: text}})"

TEXT_TOKENS = 2048

PLACEHOLDERS = ("instruction", "output_1", "output_2")
"""Of the judge's prompt."""


class Message(NamedTuple):
    """A turn of a judge's prompt."""

    role: str
    content: str


class AlpacaEval2Options(BenchmarkOptions):
    """``limit``: first instructions only (0: all 805). ``max_new_tokens``, ``temperature``: of an answer (the official
    set leaves both to each model). ``verdict``: from the judge's first-token log-probabilities, or from its text for
    an endpoint that gives none (another protocol). ``judge_max_tokens``: of a judge's reply, its thinking included (0:
    one with log-probabilities, else 2,048)."""

    max_new_tokens: int = Field(default=2048, gt=0)
    temperature: float = Field(default=0.7, ge=0)
    limit: int = Field(default=0, ge=0)
    verdict: VerdictSource = "logprobs"
    judge_max_tokens: int = Field(default=0, ge=0)


class AlpacaEval2(Benchmark):
    """Length-controlled and raw win rate against the official baseline (arXiv 2404.04475)."""

    name = NAME
    title = "AlpacaEval 2"
    summary = "the official instructions, baseline and prompt, judged by the recipe's judge behind an endpoint"
    label = "official set"
    version = 2
    judged_by = "endpoint"
    needs = TEXTS_ALONE
    Options = AlpacaEval2Options
    call_tokens = CallTokens(1300, 1)
    options: AlpacaEval2Options

    def _set_file(self) -> Path:
        return official_file(NAME, FOLDER, *SET_FILES)

    def _prompt_file(self) -> Path:
        """From the data folder, the installed alpaca-eval, or its repository."""
        path = local_file(FOLDER, *PROMPT_FILES) or packaged_file("alpaca_eval", PACKAGED_PROMPT)
        return path or official_file(NAME, FOLDER, *PROMPT_FILES)

    def _template(self) -> list[Message]:
        """Turns of the judge's prompt.

        Raises:
            UserError: the file holds none, or does not show the judge the instruction and both answers.
        """
        path = self._prompt_file()
        turns = prompt_messages(user_files.read_text_file(path), path)
        text = "".join(turn.content for turn in turns)
        missing = [name for name in PLACEHOLDERS if f"{{{name}}}" not in text]
        if missing:
            raise UserError(
                f"{path} does not hold {{{missing[0]}}}, so that the judge would not see it: take the official prompt"
            )
        return turns

    def _evaluation_set(self) -> EvaluationSet:
        """Difficulty and anchors come from where the set comes from: a data folder without them has none."""
        if local_file(FOLDER, *SET_FILES) is None:
            for name in ("instruction_difficulty.csv", "df_gamed.csv"):
                official_file(NAME, FOLDER, name)
        return read_evaluation_set(self._set_file(), self._set_file().parent)

    def protocol(self) -> dict[str, Any]:
        """Adds the set (with difficulty and anchors, if they are there), the judge's prompt and its decoding."""
        self._items(), self._template()  # what the files lack is an error before any work
        return {
            **super().protocol(),
            "label": self._label(),
            "set": self._evaluation_set().sha256,
            "prompt": files_hash(self._prompt_file()),
            "baseline": "gpt4_1106_preview",
            "judge_temperature": 1,
            "judge_max_tokens": self._judge_tokens(),
            "orders": "one, by instruction",
            "fit": "exact",
        }

    def prompt_texts(self) -> list[str]:
        """The instructions."""
        return [item.instruction for item in self._items()]

    def _label(self) -> str:
        """``official set`` for all official instructions and no others."""
        path = self._set_file()
        rows = read_set_rows(path)
        limit = self.options.limit or len(rows)
        if not is_official(path, rows):
            return f"{min(limit, len(rows)):,} instructions of another set"
        return self.label if limit >= OFFICIAL_COUNT else f"first {limit} instructions"

    def _items(self) -> list[_Item]:
        """The instructions that are asked, with the baseline's answers.

        Raises:
            UserError: one is empty, or has no answer of the baseline.
        """
        path = self._set_file()
        rows = read_set_rows(path)
        items = []
        for place, row in rows[: self.options.limit or len(rows)]:
            if not row.instruction.strip():
                raise UserError(f"{path}, {place}: the instruction is empty: write it, or remove the row")
            if row.answer is None:
                raise UserError(f"{path}, {place}: the baseline's answer is missing: give it as 'output'")
            items.append(_Item(row.instruction, row.answer))
        return items

    def _judge_tokens(self) -> int:
        return self.options.judge_max_tokens or (1 if self.options.verdict == "logprobs" else TEXT_TOKENS)

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One answer and one judgment an instruction."""
        count = published_if_absent(lambda: len(self._items()), 805, self.options.limit)
        return EvalCost(count * self.options.max_new_tokens, count)

    def requests(self, context: EvalContext) -> list[Request]:
        """One answer an instruction."""
        return [
            Request(
                context.policy.render([{"role": "user", "content": item.instruction}]),
                self.options.max_new_tokens,
                self.options.temperature,
                (NAME, i),
            )
            for i, item in enumerate(self._items())
        ]

    def answer(self, context: EvalContext) -> list[Row]:
        """The policy's answers by place in the evaluation set."""
        answers = sample_answers(context, self.requests(context))
        return [
            {"index": i, "prompt": item.instruction, "answer": answer}
            for i, (item, answer) in enumerate(zip(self._items(), answers, strict=True))
        ]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """One call an answer, in the official order of the two answers; equal answers are a draw, without a call."""
        items, template = self._items(), self._template()
        calls: dict[int, Call] = {}
        for i, row in enumerate(rows):
            item, text = items[row["index"]], row["answer"]["text"]
            if text != item.baseline:
                calls[i] = self._call(item, text, template)
        replies = dict(zip(calls, context.ask(list(calls.values())), strict=True))
        facts = self._facts()
        judged = []
        for i, row in enumerate(rows):
            verdict: Row = {"preference": DRAW}
            if i in replies:
                switched = is_switched(items[row["index"]].instruction)
                verdict = _verdict(replies[i], switched, self.options.verdict)
            judged.append({**row, **facts[row["index"]], "verdict": verdict})
        return judged

    def _call(self, item: _Item, answer: str, template: list[Message]) -> Call:
        """The judge's call for an answer to an item of the set."""
        outputs = [item.baseline, answer]
        first, second = reversed(outputs) if is_switched(item.instruction) else outputs
        values = {"instruction": item.instruction, "output_1": first, "output_2": second}
        messages = tuple((role, fill_template(content, values)) for role, content in template)
        top_logprobs = 5 if self.options.verdict == "logprobs" else 0
        return Call(messages, temperature=1.0, max_tokens=self._judge_tokens(), top_logprobs=top_logprobs)

    def _facts(self) -> list[Row]:
        """What scoring needs of each instruction, so that it needs no file but the judged rows."""
        evaluation_set = self._evaluation_set()
        facts: list[Row] = [{"baseline_length": len(item.baseline)} for item in self._items()]
        if evaluation_set.difficulty is not None:
            for fact, difficulty in zip(facts, evaluation_set.difficulty, strict=False):
                fact |= {"difficulty": float(difficulty), "anchors": []}
            anchors = evaluation_set.anchors
            for i, length, y in zip(evaluation_set.anchor_index, anchors.length, anchors.y, strict=True):
                if i < len(facts):
                    facts[int(i)]["anchors"].append([round(float(length), 8), float(y)])
        return facts

    def score(self, rows: list[Row]) -> Scored:
        """The length-controlled fit, anchors included, is repeated inside every resample."""
        controlled = all("difficulty" in r for r in rows)
        columns: Columns = {
            "id": [r["index"] for r in rows],
            "preference": _preferences([r["verdict"] for r in rows], self.options.verdict),
            "length": [len(r["answer"]["text"]) for r in rows],
            "baseline_length": [r["baseline_length"] for r in rows],
            "truncated": [float(r["answer"]["truncated"]) for r in rows],
        }
        metrics = [
            metric("win_rate", "AlpacaEval 2 raw", "win %", 1, "percent", "preference", primary=not controlled),
            metric("length", "AlpacaEval 2 length", "characters", 0, "mean", "length"),
            metric("truncated", "AlpacaEval 2 truncated", "%", 0, "percent", "truncated"),
        ]
        if controlled:
            columns |= {key: [r[key] for r in rows] for key in ("difficulty", "anchors")}
            lc = metric("lc", "AlpacaEval 2 LC", "win %", 1, "length_controlled_2", "preference", primary=True)
            metrics.insert(0, lc)
        return Scored({"items": columns}, metrics, {"preference": (0, 1)})


class _Item(NamedTuple):
    """An instruction, and the baseline's answer to it."""

    instruction: str
    baseline: str


def _verdict(reply: Reply, switched: bool, source: VerdictSource) -> Row:
    """The judge's verdict as it is stored."""
    preference, reason = read_preference(reply, switched, source)
    verdict: Row = {"preference": preference, "switched": switched, "said": reply.text, "judge": reply.model}
    if reason:
        verdict["reason"] = reason
    if reply.top_logprobs:
        verdict["top_logprobs"] = reply.top_logprobs
    return verdict | ({"error": reply.error} if reply.error else {})


def _preferences(verdicts: list[Row], source: VerdictSource) -> list[float | Invalid]:
    """Preferences in [0, 1], or why there is none. If not one log-probability could be read, the reason names the way
    out.

    Args:
        verdicts: as they are stored; a draw of equal answers was not asked for.
        source: what the verdicts were read from.
    """
    reasons = [v.get("reason", NO_VALUE) if v["preference"] is None else "" for v in verdicts]
    unreadable = source == "logprobs" and all(reasons[i] for i, v in enumerate(verdicts) if "switched" in v)
    return [
        Invalid(reason + TEXT_HINT if unreadable and reason in LACKS_LOGPROBS else reason)
        if reason
        else round(v["preference"] - BASELINE_WINS, 6)
        for v, reason in zip(verdicts, reasons, strict=True)
    ]


def prompt_messages(text: str, source: Path) -> list[Message]:
    """Turns of a prompt file: ``<|im_start|>role``, the content, ``<|im_end|>``.

    Args:
        text: of the file.
        source: the file, for the error.

    Raises:
        UserError: the file has no such turn.
    """
    turns = re.findall(r"<\|im_start\|>(\w+)\n(.*?)\n?<\|im_end\|>", text, re.S)
    if not turns:
        raise UserError(f"{source} holds no turn between <|im_start|> and <|im_end|>")
    return [Message(role, content) for role, content in turns]
