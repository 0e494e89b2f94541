"""AlpacaEval 2 on its official instructions, baseline and prompt, judged by the recipe's judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from benchmarks.alpaca_eval.score_files import Official, official
from benchmarks.alpaca_eval.verdict import DRAW, is_switched, preference
from benchmarks.shared import official_files as datadir
from benchmarks.shared.asking import answers, filled
from harness.answer.reply import Call, Reply
from harness.benchmark import TEXTS_ALONE, Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row
from harness.errors import UserError
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from harness.store import user_files as files
from sail.types import Request

NAME, FOLDER = "alpaca_eval_2", "alpaca_eval"
PROMPT = "evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
SETS = ("eval_set_gpt4_1106_preview.jsonl", "alpaca_eval_gpt4_baseline.json")


class AlpacaEval2Options(BenchmarkOptions):
    """``limit``: first instructions only (0: all 805). ``max_new_tokens``, ``temperature``: of an answer (the official
    set leaves both to each model). ``verdict``: from the judge's first-token log-probabilities, or from its text for
    an endpoint that gives none (another protocol)."""

    max_new_tokens: int = Field(default=2048, gt=0)
    temperature: float = Field(default=0.7, ge=0)
    limit: int = Field(default=0, ge=0)
    verdict: Literal["logprobs", "text"] = "logprobs"


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

    def _set(self) -> Path:
        return datadir.locate(NAME, FOLDER, *SETS)

    def _prompt(self) -> Path:
        """From the data folder, the installed alpaca-eval, or its repository."""
        names = ("judge_prompt_alpaca_eval_clf.txt", "alpaca_eval_clf.txt")
        found = datadir.optional(FOLDER, *names) or datadir.packaged("alpaca_eval", PROMPT)
        return found or datadir.locate(NAME, FOLDER, *names)

    def _known(self) -> Official:
        """Difficulty and anchors come from where the set comes from: a data folder without them has none."""
        if datadir.optional(FOLDER, *SETS) is None:
            for name in ("instruction_difficulty.csv", "df_gamed.csv"):
                datadir.locate(NAME, FOLDER, name)
        return official(self._set(), self._set().parent)

    def protocol(self) -> dict[str, Any]:
        """Adds the set (with difficulty and anchors, if they are there), the judge's prompt and its decoding."""
        return {
            **super().protocol(),
            "set": self._known().sha256,
            "prompt": datadir.sha256(self._prompt()),
            "baseline": "gpt4_1106_preview",
            "judge_temperature": 1,
            "orders": "one, by instruction",
            "fit": "exact",
        }

    def prompt_texts(self) -> list[str]:
        """The instructions."""
        return [item["instruction"] for item in self._items()]

    def _items(self) -> list[Row]:
        found = files.read_user_rows(self._set(), ["instruction"])
        return found[: self.options.limit] if self.options.limit else found

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
        return [{"index": i, "answer": a} for i, a in enumerate(answers(context, self.requests(context)))]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """One call an instruction, in the official order of the two answers; equal answers are a draw and not asked."""
        items, template = self._items(), messages(files.read_text_file(self._prompt()), self._prompt())
        asked: list[tuple[int, bool]] = []
        calls = []
        for i, row in enumerate(rows):
            item = items[row["index"]]
            ours, theirs = row["answer"]["text"], _baseline(item)
            if ours == theirs:
                continue
            switched = is_switched(item["instruction"])
            first, second = (ours, theirs) if switched else (theirs, ours)
            values = {"instruction": item["instruction"], "output_1": first, "output_2": second}
            text = tuple((role, filled(content, values)) for role, content in template)
            top = 5 if self.options.verdict == "logprobs" else 0
            calls.append(Call(text, temperature=1.0, max_tokens=1, top_logprobs=top))
            asked.append((i, switched))
        found = {i: _verdict(r, s, self.options.verdict) for (i, s), r in zip(asked, context.ask(calls), strict=True)}
        facts = self._facts()
        return [
            {**row, **facts[row["index"]], "verdict": found.get(i, {"preference": DRAW})} for i, row in enumerate(rows)
        ]

    def _facts(self) -> list[Row]:
        """What scoring needs of each instruction, so that it needs no file but the judged rows."""
        known = self._known()
        found: list[Row] = [{"baseline_length": len(_baseline(item))} for item in self._items()]
        if known.difficulty is not None:
            for fact, hard in zip(found, known.difficulty, strict=False):
                fact |= {"difficulty": float(hard), "anchors": []}
            for i, x, y in zip(known.anchor_index, known.anchors.length, known.anchors.y, strict=True):
                if i < len(found):
                    found[int(i)]["anchors"].append([round(float(x), 8), float(y)])
        return found

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """The length-controlled fit, anchors included, is repeated inside every resample."""
        controlled = all("difficulty" in r for r in rows)
        columns: Columns = {
            "id": [r["index"] for r in rows],
            "preference": [None if (p := r["verdict"]["preference"]) is None else round(p - 1, 6) for r in rows],
            "length": [len(r["answer"]["text"]) for r in rows],
            "baseline_length": [r["baseline_length"] for r in rows],
            "truncated": [float(r["answer"]["truncated"]) for r in rows],
        }
        raw = metric("win_rate", "AlpacaEval 2 raw", "win %", 1, "percent", "preference", primary=not controlled)
        found = [raw, metric("length", "AlpacaEval 2 length", "characters", 0, "mean", "length")]
        found.append(metric("truncated", "AlpacaEval 2 truncated", "%", 0, "percent", "truncated"))
        if controlled:
            columns |= {key: [r[key] for r in rows] for key in ("difficulty", "anchors")}
            lc = metric("lc", "AlpacaEval 2 LC", "win %", 1, "length_controlled_2", "preference", primary=True)
            found.insert(0, lc)
        return {"items": columns}, found


def _baseline(item: Row) -> str:
    return str(item.get("baseline_output", item.get("output", "")))


def _verdict(reply: Reply, switched: bool, how: str) -> dict[str, Any]:
    if how == "text":
        said = (reply.text or "").strip()
        found = preference({said: 0.0}, switched) if said in ("m", "M") else None
    else:
        found = None if reply.top_logprobs is None else preference(reply.top_logprobs, switched)
    kept: dict[str, Any] = {"preference": found, "switched": switched, "said": reply.text, "judge": reply.model}
    if reply.top_logprobs:
        kept["top_logprobs"] = reply.top_logprobs
    return kept | ({"error": reply.error} if reply.error else {})


def messages(text: str, source: Path) -> list[tuple[str, str]]:
    """Turns of a prompt file: ``<|im_start|>role``, the content, ``<|im_end|>``.

    Raises:
        UserError: the file has no such turn.
    """
    found = re.findall(r"<\|im_start\|>(\w+)\n(.*?)\n?<\|im_end\|>", text, re.S)
    if not found:
        raise UserError(f"{source} holds no turn between <|im_start|> and <|im_end|>")
    return [(role, content) for role, content in found]
