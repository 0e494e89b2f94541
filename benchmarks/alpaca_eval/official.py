"""AlpacaEval 2 on its official instructions, baseline and prompt, judged by the recipe's judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from benchmarks.alpaca_eval.evaluation_set import SET_FILES, EvaluationSet, read_evaluation_set
from benchmarks.alpaca_eval.verdict import DRAW, is_switched, preference_from_logprobs
from benchmarks.shared.asking import fill_template, sample_answers
from benchmarks.shared.official_files import files_hash, local_file, official_file, packaged_file
from harness.answer.reply import Call, Reply
from harness.benchmark import TEXTS_ALONE, Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row, Scored
from harness.errors import UserError
from harness.score.metrics import metric
from harness.score.results import Columns
from harness.store import user_files
from sail.types import Request

NAME, FOLDER = "alpaca_eval_2", "alpaca_eval"
PACKAGED_PROMPT = "evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
PROMPT_FILES = ("judge_prompt_alpaca_eval_clf.txt", "alpaca_eval_clf.txt")

VerdictSource = Literal["logprobs", "text"]


class Message(NamedTuple):
    """A turn of a judge's prompt."""

    role: str
    content: str


class AlpacaEval2Options(BenchmarkOptions):
    """``limit``: first instructions only (0: all 805). ``max_new_tokens``, ``temperature``: of an answer (the official
    set leaves both to each model). ``verdict``: from the judge's first-token log-probabilities, or from its text for
    an endpoint that gives none (another protocol)."""

    max_new_tokens: int = Field(default=2048, gt=0)
    temperature: float = Field(default=0.7, ge=0)
    limit: int = Field(default=0, ge=0)
    verdict: VerdictSource = "logprobs"


class AlpacaEval2(Benchmark):
    """Length-controlled and raw win rate against the official baseline (arXiv 2404.04475; spec/evals 1)."""

    name = NAME
    title = "AlpacaEval 2"
    summary = "the official instructions, baseline and prompt, judged by the recipe's judge behind an endpoint"
    label = "official set"
    judged_by = "endpoint"
    needs = TEXTS_ALONE
    Options = AlpacaEval2Options
    options: AlpacaEval2Options

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        if self.options.limit:
            self.label = f"first {self.options.limit} instructions"

    def _set_file(self) -> Path:
        return official_file(NAME, FOLDER, *SET_FILES)

    def _prompt_file(self) -> Path:
        """From the data folder, the installed alpaca-eval, or its repository."""
        path = local_file(FOLDER, *PROMPT_FILES) or packaged_file("alpaca_eval", PACKAGED_PROMPT)
        return path or official_file(NAME, FOLDER, *PROMPT_FILES)

    def _evaluation_set(self) -> EvaluationSet:
        """Difficulty and anchors come from where the set comes from: a data folder without them has none."""
        if local_file(FOLDER, *SET_FILES) is None:
            for name in ("instruction_difficulty.csv", "df_gamed.csv"):
                official_file(NAME, FOLDER, name)
        return read_evaluation_set(self._set_file(), self._set_file().parent)

    def protocol(self) -> dict[str, Any]:
        """Adds the set (with difficulty and anchors, if they are there), the judge's prompt and its decoding."""
        return {
            **super().protocol(),
            "set": self._evaluation_set().sha256,
            "prompt": files_hash(self._prompt_file()),
            "baseline": "gpt4_1106_preview",
            "judge_temperature": 1,
            "orders": "one, by instruction",
            "fit": "exact",
        }

    def prompt_texts(self) -> list[str]:
        """The instructions."""
        return [item["instruction"] for item in self._items()]

    def _items(self) -> list[Row]:
        rows = user_files.read_user_rows(self._set_file(), ["instruction"])
        return rows[: self.options.limit] if self.options.limit else rows

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One answer and one judgment an instruction."""
        count = len(self._items())
        return EvalCost(count * self.options.max_new_tokens, count)

    def requests(self, context: EvalContext) -> list[Request]:
        """One answer an instruction."""
        return [
            Request(
                context.policy.render([{"role": "user", "content": item["instruction"]}]),
                self.options.max_new_tokens,
                self.options.temperature,
                (NAME, i),
            )
            for i, item in enumerate(self._items())
        ]

    def answer(self, context: EvalContext) -> list[Row]:
        """The policy's answers by place in the evaluation set."""
        return [{"index": i, "answer": a} for i, a in enumerate(sample_answers(context, self.requests(context)))]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """One call an answer, in the official order of the two answers; equal answers are a draw, without a call."""
        items, path = self._items(), self._prompt_file()
        template = prompt_messages(user_files.read_text_file(path), path)
        calls: dict[int, Call] = {}
        for i, row in enumerate(rows):
            item, text = items[row["index"]], row["answer"]["text"]
            if text != _baseline_text(item):
                calls[i] = self._call(item, text, template)
        replies = dict(zip(calls, context.ask(list(calls.values())), strict=True))
        facts = self._facts()
        judged = []
        for i, row in enumerate(rows):
            verdict: Row = {"preference": DRAW}
            if i in replies:
                switched = is_switched(items[row["index"]]["instruction"])
                verdict = _verdict(replies[i], switched, self.options.verdict)
            judged.append({**row, **facts[row["index"]], "verdict": verdict})
        return judged

    def _call(self, item: Row, answer: str, template: list[Message]) -> Call:
        """The judge's call for an answer to an item of the set."""
        outputs = [_baseline_text(item), answer]
        first, second = reversed(outputs) if is_switched(item["instruction"]) else outputs
        values = {"instruction": item["instruction"], "output_1": first, "output_2": second}
        messages = tuple((role, fill_template(content, values)) for role, content in template)
        top_logprobs = 5 if self.options.verdict == "logprobs" else 0
        return Call(messages, temperature=1.0, max_tokens=1, top_logprobs=top_logprobs)

    def _facts(self) -> list[Row]:
        """What scoring needs of each instruction, so that it needs no file but the judged rows."""
        evaluation_set = self._evaluation_set()
        facts: list[Row] = [{"baseline_length": len(_baseline_text(item))} for item in self._items()]
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
            "preference": [None if (p := r["verdict"]["preference"]) is None else round(p - 1, 6) for r in rows],
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
        return Scored({"items": columns}, metrics)


def _baseline_text(item: Row) -> str:
    return str(item.get("baseline_output", item.get("output", "")))


def _verdict(reply: Reply, switched: bool, source: VerdictSource) -> Row:
    """The judge's verdict as it is stored."""
    if source == "text":
        token = (reply.text or "").strip()
        preference = preference_from_logprobs({token: 0.0}, switched) if token in ("m", "M") else None
    elif reply.top_logprobs is None:
        preference = None
    else:
        preference = preference_from_logprobs(reply.top_logprobs, switched)
    verdict: Row = {"preference": preference, "switched": switched, "said": reply.text, "judge": reply.model}
    if reply.top_logprobs:
        verdict["top_logprobs"] = reply.top_logprobs
    return verdict | ({"error": reply.error} if reply.error else {})


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
