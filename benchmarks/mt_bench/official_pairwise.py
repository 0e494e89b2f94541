"""MT-Bench's pairwise mode on the official questions: the policy's answers against a baseline's, two games a turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks.mt_bench.official_single import FOLDER, MTBenchOptions, OfficialQuestions, by_category, told
from benchmarks.mt_bench.verdict_pairwise import FIRST, fill, points, prompt_name, settled, verdict
from benchmarks.shared import official_files as datadir
from harness.answer.reply import Call, Reply
from harness.benchmark import TEXTS_ALONE, BenchmarkOptions, EvalContext, EvalCost, Row
from harness.errors import UserError
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from harness.store import user_files as files

START = "start"


class PairwiseOptions(MTBenchOptions):
    """``baseline``: ``start``, the start policy's answers by the same decoding; or NAME, for the FastChat answers in
    ``mt_bench/model_answer/NAME.jsonl`` of the data folder."""

    baseline: str = Field(default=START, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class MTBenchPairwise(OfficialQuestions):
    """Two games a turn, one in each order; a win or a loss needs both, anything else is a tie (arXiv 2306.05685).

    Equal answers are a tie and are not asked: at temperature 0 both games would be one question with one answer.
    """

    name = "mt_bench_pairwise"
    title = "MT-Bench pairwise"
    summary = "win rate on the 80 official questions (--data-dir) against start or given answers, two games a turn"
    Options = PairwiseOptions
    options: PairwiseOptions

    def _prompt(self, category: str, turn: int) -> str:
        return prompt_name(category, turn)

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        if self._against_start:
            self.needs = TEXTS_ALONE | {"start"}

    @property
    def _against_start(self) -> bool:
        return self.options.baseline == START

    def protocol(self) -> dict[str, Any]:
        """Adds the games, and the file of the baseline's answers."""
        found = {**super().protocol(), "games": "two, a win if both agree"}
        if not self._against_start:
            self._given()  # missing answers are told before any work
            found["baseline_answers"] = datadir.sha256(self._file())
        return found

    def _file(self) -> Path:
        return datadir.locate(self.name, FOLDER, f"model_answer/{self.options.baseline}.jsonl")

    def _given(self) -> list[list[Row]]:
        """The baseline's answers from its file.

        Raises:
            UserError: an answer is missing.
        """
        rows = files.read_user_rows(self._file(), ["question_id", "choices"])
        found = {r["question_id"]: [{"text": t} for t in r["choices"][0]["turns"]] for r in rows}
        for question in self._questions():
            if len(found.get(question["question_id"], [])) < 2:
                raise UserError(
                    f"{self._file()} lacks an answer to question {question['question_id']}, which has two turns"
                )
        return [found[q["question_id"]][:2] for q in self._questions()]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """Two answers a question, each compared twice unless it is the baseline itself."""
        count = 2 * len(self._questions())
        return EvalCost(count * self.options.max_new_tokens, 2 * count * (trained or not self._against_start))

    def answer(self, context: EvalContext) -> list[Row]:
        """Both turns, with the baseline's beside them."""
        ours = super().answer(context)
        theirs = self._said(context, context.start) if self._against_start else self._given()
        return [{**row, "baseline": turns} for row, turns in zip(ours, theirs, strict=True)]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """Game 1 shows the policy first, game 2 the baseline, as FastChat does."""
        questions, references, prompts = self._judging()
        calls: list[Call] = []
        asked: list[tuple[int, int]] = []
        for i, row in enumerate(rows):
            ours, theirs = ([t["text"] for t in row[side]] for side in ("turns", "baseline"))
            question, known = questions[row["question_id"]]["turns"], references[row["question_id"]]
            for turn in (1, 2):
                if ours[:turn] == theirs[:turn]:
                    continue
                prompt = prompts[self._prompt(row["category"], turn)]
                for a, b in ((ours, theirs), (theirs, ours)):
                    calls.append(self._call(prompt, fill(prompt["prompt_template"], question, a, b, known, turn)))
                asked.append((i, turn))
        replies = context.ask(calls)
        games = {key: [_game(r) for r in replies[2 * k : 2 * k + 2]] for k, key in enumerate(asked)}
        return [{**row, "games": [games.get((i, turn)) for turn in (1, 2)]} for i, row in enumerate(rows)]

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """Shares of question and turn, both turns pooled; questions are resampled. A turn with a game that has no
        verdict counts as not valid."""
        turns = [[_scored(games) for games in r["games"]] for r in rows]
        columns: Columns = {
            "id": [r["question_id"] for r in rows],
            "category": [r["category"] for r in rows],
            "preference": [[t["points"] for t in row] for row in turns],
            "turn_1": [row[0]["points"] for row in turns],
            "turn_2": [row[1]["points"] for row in turns],
            **{
                name: [[None if t["points"] is None else float(t["points"] == p) for t in row] for row in turns]
                for name, p in (("win", 1), ("tie", 0.5), ("loss", 0))
            },
            "agree": [[t["agree"] for t in row] for row in turns],
            "first_slot": [[g for t in row for g in t["first"]] for row in turns],
            "length": [sum(len(t["text"]) for t in r["turns"]) / 2 for r in rows],
            "baseline_length": [sum(len(t["text"]) for t in r["baseline"]) / 2 for r in rows],
        }
        groups = by_category(columns, "preference")
        title = self.title
        return groups, [
            metric("win_rate_adjusted", title, "win %", 1, "pooled_percent", "preference", primary=True),
            metric("win", f"{title} wins", "%", 1, "pooled_percent", "win"),
            metric("tie", f"{title} ties", "%", 0, "pooled_percent", "tie"),
            metric("loss", f"{title} losses", "%", -1, "pooled_percent", "loss"),
            metric("turn_1", f"{title} turn 1", "win %", 1, "percent", "turn_1"),
            metric("turn_2", f"{title} turn 2", "win %", 1, "percent", "turn_2"),
            metric("agree", "both games agree", "%", 0, "pooled_percent", "agree"),
            metric("first_slot", "games won by the first slot", "%", 0, "pooled_percent", "first_slot"),
            metric("length", f"{title} length", "characters", 0, "mean", "length"),
            *(
                metric(name, f"{title} {name}", "win %", 1, "pooled_percent", "preference", group=name)
                for name in groups
                if name != "items"
            ),
        ]


def _game(reply: Reply) -> Row:
    return {"verdict": verdict(reply.text) if reply.text else None, "judgment": reply.text} | told(reply)


def _scored(games: list[Row] | None) -> dict[str, Any]:
    """One turn: our points, whether both games say the same, and the first slot's points in each game."""
    if games is None:
        return {"points": 0.5, "agree": None, "first": [None, None]}
    slots = [g["verdict"] for g in games]
    first, second = points(slots[0], "A"), points(slots[1], "B")
    agree = None if first is None or second is None else float(first == second)
    return {"points": settled(first, second), "agree": agree, "first": [FIRST.get(s) for s in slots]}
