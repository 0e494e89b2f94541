"""MT-Bench's pairwise mode on the official questions: the policy's answers against a baseline's, two games a turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from benchmarks.mt_bench.judge_prompts import fill_prompt, pairwise_prompt_name
from benchmarks.mt_bench.layouts import read_two_turn_answers
from benchmarks.mt_bench.official_questions import (
    FOLDER,
    MTBenchOptions,
    OfficialQuestions,
    category_metrics,
    groups_by_category,
    reply_facts,
)
from benchmarks.mt_bench.verdict_pairwise import FIRST_SLOT_POINTS, WINNER_RULE, game_points, pair_points, read_winner
from benchmarks.shared.official_files import files_hash, official_file
from harness.answer.reply import Call, Reply
from harness.benchmark import (
    TEXTS_ALONE,
    BenchmarkOptions,
    CallTokens,
    EvalContext,
    EvalCost,
    Row,
    Scored,
    published_if_absent,
)
from harness.score.metrics import metric
from harness.score.results import Columns
from harness.score.validity import NO_VALUE, Invalid

START = "start"


class PairwiseOptions(MTBenchOptions):
    """``baseline``: ``start``, the start policy's answers by the same decoding; or NAME, for the FastChat answers in
    ``mt_bench/model_answer/NAME.jsonl`` of the data folder."""

    baseline: str = Field(default=START, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class TurnPoints(NamedTuple):
    """One turn: our points, whether both games agree, the first slot's points in each game."""

    points: float | Invalid
    agree: float | Invalid
    first_slot: list[float | Invalid]


class MTBenchPairwise(OfficialQuestions):
    """Two games a turn, one in each order; a win or a loss needs both, anything else is a tie (arXiv 2306.05685).

    Equal answers are a tie without a call: at temperature 0 both games would be one question with one answer.
    """

    name = "mt_bench_pairwise"
    title = "MT-Bench pairwise"
    summary = "win rate on the 80 official questions (--data-dir) against start or given answers, two games a turn"
    Options = PairwiseOptions
    call_tokens = CallTokens(1800, 300)
    options: PairwiseOptions

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        if self._against_start:
            self.needs = TEXTS_ALONE | {"start"}

    answer_slots = ("answer_a", "answer_b")

    def prompt_name(self, category: str, turn: int) -> str:
        """Of the pairwise prompts."""
        return pairwise_prompt_name(category, turn)

    @property
    def _against_start(self) -> bool:
        return self.options.baseline == START

    def protocol(self) -> dict[str, Any]:
        """Adds the games, how a verdict is read, and the file of the baseline's answers."""
        protocol = {**super().protocol(), "games": "two, a win if both agree", "verdict": WINNER_RULE}
        if not self._against_start:
            self._baseline_answers()  # a missing answer is an error before any work
            protocol["baseline_answers"] = files_hash(self._baseline_file())
        return protocol

    def _baseline_file(self) -> Path:
        return official_file(self.name, FOLDER, f"model_answer/{self.options.baseline}.jsonl")

    def _baseline_answers(self) -> list[list[Row]]:
        """The baseline's answers from its file: both turns of each question.

        Raises:
            UserError: an answer or a turn of one is missing, or the file breaks its layout.
        """
        ids = [question.question_id for question in self.questions()]
        answers = read_two_turn_answers(self._baseline_file(), ids, "an answer")
        return [[{"text": text} for text in answers[number]] for number in ids]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """Two answers a question, each compared twice unless it is the baseline itself."""
        count = 2 * published_if_absent(lambda: len(self.questions()), 80, self.options.limit)
        return EvalCost(count * self.options.max_new_tokens, 2 * count * (trained or not self._against_start))

    def answer(self, context: EvalContext) -> list[Row]:
        """Both turns, with the baseline's beside them."""
        rows = super().answer(context)
        baselines = self.answers_of(context, context.start) if self._against_start else self._baseline_answers()
        return [{**row, "baseline": turns} for row, turns in zip(rows, baselines, strict=True)]

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """Game 1 shows the policy first, game 2 the baseline, as FastChat does."""
        questions, references, prompts = self.judging_material()
        calls: list[Call] = []
        judged_turns: list[tuple[int, int]] = []
        for i, row in enumerate(rows):
            answer, baseline = ([turn["text"] for turn in row[side]] for side in ("turns", "baseline"))
            question, reference = questions[row["question_id"]].turns, references[row["question_id"]]
            for turn in (1, 2):
                if answer[:turn] == baseline[:turn]:
                    continue
                prompt = prompts[self.prompt_name(row["category"], turn)]
                for a, b in ((answer, baseline), (baseline, answer)):
                    shown = {"answer_a": a, "answer_b": b}
                    user = fill_prompt(prompt.prompt_template, question, shown, reference, turn)
                    calls.append(self.judge_call(prompt, user))
                judged_turns.append((i, turn))
        replies = context.ask(calls)
        games = {key: [_game(r) for r in replies[2 * k : 2 * k + 2]] for k, key in enumerate(judged_turns)}
        return [{**row, "games": [games.get((i, turn)) for turn in (1, 2)]} for i, row in enumerate(rows)]

    def score(self, rows: list[Row]) -> Scored:
        """Shares of question and turn, both turns pooled; questions are resampled. A turn with a game that has no
        verdict counts as not valid."""
        turns = [[_turn_points(games) for games in r["games"]] for r in rows]
        columns: Columns = {
            "id": [r["question_id"] for r in rows],
            "category": [r["category"] for r in rows],
            "preference": [[t.points for t in row] for row in turns],
            "turn_1": [row[0].points for row in turns],
            "turn_2": [row[1].points for row in turns],
            **{
                name: [[_outcome(t.points, points) for t in row] for row in turns]
                for name, points in (("win", 1), ("tie", 0.5), ("loss", 0))
            },
            "agree": [[t.agree for t in row] for row in turns],
            "first_slot": [[points for t in row for points in t.first_slot] for row in turns],
            "length": [sum(len(t["text"]) for t in r["turns"]) / 2 for r in rows],
            "baseline_length": [sum(len(t["text"]) for t in r["baseline"]) / 2 for r in rows],
        }
        groups = groups_by_category(columns, "preference")
        title = self.title
        return Scored(
            groups,
            [
                metric("win_rate_adjusted", title, "win %", 1, "pooled_percent", "preference", primary=True),
                metric("win", f"{title} wins", "%", 1, "pooled_percent", "win"),
                metric("tie", f"{title} ties", "%", 0, "pooled_percent", "tie"),
                metric("loss", f"{title} losses", "%", -1, "pooled_percent", "loss"),
                metric("turn_1", f"{title} turn 1", "win %", 1, "percent", "turn_1"),
                metric("turn_2", f"{title} turn 2", "win %", 1, "percent", "turn_2"),
                metric("agree", "both games agree", "%", 0, "pooled_percent", "agree"),
                metric("first_slot", "games won by the first slot", "%", 0, "pooled_percent", "first_slot"),
                metric("length", f"{title} length", "characters", 0, "mean", "length"),
                *category_metrics(groups, title, "win %", "pooled_percent", "preference"),
            ],
            dict.fromkeys(("preference", "turn_1", "turn_2", "win", "tie", "loss", "agree", "first_slot"), (0.0, 1.0)),
        )


EQUAL_ANSWERS = Invalid("equal answers: not asked")
"""Of a turn's games where both answers are the same."""


def _game(reply: Reply) -> Row:
    """A game as it is stored."""
    winner, reason = read_winner(reply)
    return {"verdict": winner, "reason": reason, "judgment": reply.text} | reply_facts(reply)


def _turn_points(games: list[Row] | None) -> TurnPoints:
    """Points of a turn's two games; without games the answers were equal."""
    if games is None:
        return TurnPoints(0.5, EQUAL_ANSWERS, [EQUAL_ANSWERS, EQUAL_ANSWERS])
    winners = [game["verdict"] for game in games]
    reasons = [Invalid(game.get("reason") or NO_VALUE) for game in games]
    slots = [FIRST_SLOT_POINTS.get(w, reason) for w, reason in zip(winners, reasons, strict=True)]
    first, second = game_points(winners[0], "A"), game_points(winners[1], "B")
    points = pair_points(first, second)
    if points is None:
        missing = reasons[0 if first is None else 1]
        return TurnPoints(missing, missing, slots)
    return TurnPoints(points, float(first == second), slots)


def _outcome(points: float | Invalid, wanted: float) -> float | Invalid:
    """1 if a turn ended so, else 0."""
    return points if isinstance(points, Invalid) else float(points == wanted)
