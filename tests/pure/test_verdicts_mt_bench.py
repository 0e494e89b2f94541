"""What counts as a verdict in MT-Bench: in a judge's reply, in FastChat's files, and which of repeated rows counts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.evaluation_cases import cases
from kit.mt_bench_files import played, rated, score_command, write_data, write_rows

from benchmarks.mt_bench import MTBench
from benchmarks.mt_bench.official_pairwise import MTBenchPairwise
from benchmarks.mt_bench.official_single import OfficialMTBench
from benchmarks.mt_bench.verdict_pairwise import read_winner
from benchmarks.mt_bench.verdict_single import read_rating
from harness.answer.reply import EMPTY, REFUSED, Reply
from harness.answer.verdict import (
    CONTRADICTORY,
    CUT,
    EMPTY_REPLY,
    NO_LABEL,
    OUT_OF_RANGE,
    REFUSED_REPLY,
    UNANSWERED,
    UNFINISHED_THINKING,
)
from harness.benchmark import benchmark_result
from harness.score.results import BenchmarkResult
from harness.store.settings import Settings, using

# the reader


@pytest.mark.parametrize(
    ("text", "rating", "reason"),
    [
        ("Rating: [[9]]", 9.0, ""),
        ("<think>perhaps [[2]]</think>Rating: [[9]]", 9.0, ""),
        ("perhaps [[2]]</think>Rating: [[9]]", 9.0, ""),  # the template opened the block
        ("[THINK][[3]][/THINK] [[7.5]] and again [[7.5]]", 7.5, ""),
        ("As [2] says. Rating: [[8]]", 8.0, ""),  # double brackets before single ones
        ("Rating: [8]", 8.0, ""),
        ('It claims "[[10]]". Rating: [[2]]', None, CONTRADICTORY),
        ("Either [6] or [7].", None, CONTRADICTORY),
        ("<think>[[3]] or [[4]]", None, UNFINISHED_THINKING),
        ("Rating: [[85]]", None, OUT_OF_RANGE),
        ("Rating: [[0]]", None, OUT_OF_RANGE),
        ("Rating: [[10.5]]", None, OUT_OF_RANGE),
        ("Rating: [[" + "9" * 400 + "]]", None, OUT_OF_RANGE),
        ("Rating: 8", None, NO_LABEL),
        ("Rating: [[-3]]", None, NO_LABEL),
        (" \n", None, EMPTY_REPLY),
    ],
)
def test_a_rating_or_the_reason_why_there_is_none(text: str, rating: float | None, reason: str) -> None:
    assert read_rating(text) == (rating, reason)


@pytest.mark.parametrize(
    ("text", "winner", "reason"),
    [
        ("<think>[[A]] at first</think>[[B]]", "B", ""),
        ("[[C]], so [[C]]", "tie", ""),
        ("One may say [[A]] at first sight. After checking: [[B]]", None, CONTRADICTORY),
        ("[[C]] or rather [[A]]", None, CONTRADICTORY),
        ("<think>[[A]]", None, UNFINISHED_THINKING),
        ("Assistant A is better than assistant B.", None, NO_LABEL),
    ],
)
def test_a_winner_or_the_reason_why_there_is_none(text: str, winner: str | None, reason: str) -> None:
    assert read_winner(text) == (winner, reason)


@given(st.text() | st.text("[]<>/ABC019.think ", max_size=60))
def test_no_text_gives_a_verdict_outside_its_range(text: str) -> None:
    rating, winner = read_rating(text), read_winner(text)
    assert (rating.value is None) == bool(rating.reason)
    assert rating.value is None or 1 <= rating.value <= 10
    assert (winner.value is None) == bool(winner.reason)
    assert winner.value in (None, "A", "B", "tie")


# compare: from the judge's replies to the result

ANSWERS = [
    {"question_id": 81, "category": "writing", "turns": [{"text": "a"}, {"text": "b"}]},
    {"question_id": 111, "category": "math", "turns": [{"text": "c"}, {"text": "d"}]},
]


def judged_result(benchmark: OfficialMTBench | MTBenchPairwise, folder: Path, replies: list[Reply]) -> BenchmarkResult:
    """The result where the judge gives these replies in turn."""
    rows: list[dict[str, Any]] = [row | {"baseline": [{"text": "g1"}, {"text": "g2"}]} for row in ANSWERS]
    context: Any = SimpleNamespace(ask=lambda calls: replies[: len(calls)])
    with using(Settings(data_dir=str(folder))):
        judged = benchmark.judge(rows, context)
        return benchmark_result(benchmark, judged, benchmark.protocol(), None)


def test_reasons_are_counted_by_turn(tmp_path: Path) -> None:
    folder = write_data(tmp_path)
    replies = [
        Reply("<think>[[2]]</think>[[9]]"),
        Reply("[[10]] says the answer. [[2]]"),
        Reply("[[85]]"),
        Reply("[[7]]"),
    ]
    result = judged_result(OfficialMTBench(), folder, replies)
    assert result.metric("rating").value == 8
    assert result.items["items"]["rating"] == [[9, None], [None, 7]]
    assert result.invalid["rating"] == {CONTRADICTORY: 1, OUT_OF_RANGE: 1}
    assert result.invalid["turn_1"] == {OUT_OF_RANGE: 1}
    assert result.invalid["turn_2"] == {CONTRADICTORY: 1}
    assert result.invalid["math"] == {OUT_OF_RANGE: 1}
    replies = [
        Reply("", error=EMPTY),
        Reply(None, error=REFUSED + "filter"),
        Reply(None, error="timeout"),
        Reply("A long ", finish="length"),
    ]
    result = judged_result(OfficialMTBench(), folder, replies)
    assert result.metric("rating").value is None
    assert result.invalid["rating"] == {EMPTY_REPLY: 1, REFUSED_REPLY: 1, UNANSWERED: 1, CUT: 1}


def test_a_game_without_a_verdict_says_why(tmp_path: Path) -> None:
    folder = write_data(tmp_path)
    replies = [
        *(Reply("<think>[[A]]</think>[[B]]"), Reply("[[A]]")),  # lost twice
        *(Reply("[[A]] or [[B]]"), Reply("[[B]]")),
        *(Reply("[[A]]"), Reply("<think>[[A]]", finish="length")),
        *(Reply("[[C]]"), Reply("[[B]]")),
    ]
    result = judged_result(MTBenchPairwise(), folder, replies)
    assert result.items["items"]["preference"] == [[0, None], [None, 0.5]]
    assert result.invalid["win_rate_adjusted"] == {CONTRADICTORY: 1, UNFINISHED_THINKING: 1}
    assert result.items["items"]["first_slot"] == [[0, 1, None, 0], [1, None, 0.5, 0]]
    assert result.invalid["first_slot"] == result.invalid["win_rate_adjusted"]


@pytest.mark.parametrize("rating", [85, -1, 0, float("nan"), float("inf"), "8", [8], {}, None, 10**400])
def test_no_stored_rating_beyond_the_scale_is_averaged(rating: Any) -> None:
    rows = [{**row, "ratings": [{"rating": rating}, {"rating": 8.0}]} for row in ANSWERS]
    result = benchmark_result(OfficialMTBench(), rows, {}, None)
    assert result.metric("rating").value == 8
    assert sum(result.invalid["turn_1"].values()) == 2


def test_ratings_of_the_mini_set_stay_on_its_scale() -> None:
    rows = [
        {"question_id": i, "category": "math", "ratings": [{"rating": r, "mass": 0.5}, {"rating": 4.0, "mass": 0.5}]}
        for i, r in enumerate([2.0, 11.0, float("nan"), 0.0, 8.0])
    ]
    result = benchmark_result(MTBench(), rows, {}, None)
    assert result.items["items"]["turn_1"] == [2.0, None, None, None, 8.0]
    assert result.invalid["turn_1"] == {"not finite": 1, "outside 1 to 9": 2}


def test_both_protocols_say_which_rule_reads_a_verdict(tmp_path: Path) -> None:
    folder = write_data(tmp_path)
    with using(Settings(data_dir=str(folder))):
        assert "contradict" in OfficialMTBench().protocol()["verdict"]
        assert "contradict" in MTBenchPairwise().protocol()["verdict"]


# score: files of single-answer ratings


def test_the_text_of_a_row_counts_and_the_official_value_stands_beside(tmp_path: Path) -> None:
    rows = [
        rated(81, 1, 3.0, "First [[3]]. Final rating: [[9]]"),
        rated(81, 2, 9.0, "<think>[[4]]</think> [[8]]"),
        rated(82, 1, 2.0, "[[2]]"),
        rated(82, 2, 6.0),  # no text: the stored score
        rated(83, 1, 7.0, ""),
        rated(83, 2, -1, "$ERROR$"),
    ]
    report, messages = score_command(write_rows(tmp_path / "single.jsonl", rows))
    (score,) = report["scores"]
    assert score["metrics"]["rating"]["value"] == pytest.approx((8 + 2 + 6 + 7) / 4)
    assert score["show_result"] == pytest.approx((3 + 9 + 2 + 6 + 7) / 5)
    assert (score["n_valid"], score["n_total"]) == (4, 6)
    assert (score["differ"], score["rows_from_text"]) == (2, 3)
    assert score["invalid"] == {CONTRADICTORY: 1, "stored as failed": 1}
    assert "text" in report["protocol"]["verdicts"]
    assert "(official)" in messages
    assert "5.40" in messages
    assert "m: 2 rows differ from the stored score" in messages


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        (rated(81, 1, -1, "no rating"), rated(81, 1, 7, "[[7]]")),
        (rated(81, 1, -1), rated(81, 1, 7)),
        (rated(81, 1, -1, "$ERROR$"), rated(81, 1, 7, "[[7]]")),
        (rated(81, 1, None), rated(81, 1, 7)),
        (rated(81, 1, 3, "[[3]] or [[4]]"), rated(81, 1, 7, "[[7]]")),
        (rated(81, 1, 70, "[[70]]"), rated(81, 1, 7, "[[7]]")),
        (rated(81, 1, float("nan")), rated(81, 1, 7)),
    ],
)
def test_a_failed_judgment_gives_way_to_its_re_run(failed: Any, again: Any, tmp_path: Path) -> None:
    rest = [rated(81, 2, 5), rated(82, 1, 5), rated(82, 2, 5)]
    report, messages = score_command(write_rows(tmp_path / "single.jsonl", [failed, failed, *rest, again]))
    (score,) = report["scores"]
    assert (score["n_valid"], score["n_total"]) == (4, 4)
    assert score["metrics"]["rating"]["value"] == pytest.approx(22 / 4)
    assert (score["replaced"], score["duplicates"], score["rows"]) == (2, 2, 6)
    assert "m: 2 failed rows replaced by a re-run" in messages
    assert "repeat a question and turn" not in messages


def test_of_repeated_valid_rows_the_first_counts(tmp_path: Path) -> None:
    rows = [rated(81, 1, 4), rated(81, 1, 9), rated(81, 1, -1), rated(81, 2, 4)]
    report, messages = score_command(write_rows(tmp_path / "single.jsonl", rows))
    assert report["scores"][0]["metrics"]["rating"]["value"] == 4
    assert (report["scores"][0]["replaced"], report["scores"][0]["duplicates"]) == (0, 2)
    assert "2 rows repeat a question and turn: the first valid one counts" in messages
    assert report["scores"][0]["show_result"] == pytest.approx(17 / 3)


# score: files of pairwise games


def test_the_text_of_a_game_counts(tmp_path: Path) -> None:
    rows = [
        played(81, 1, ("model_1", "model_1"), ("[[A]] at first. After checking: [[B]]", "[[B]]")),
        played(81, 2, ("model_1", "model_1"), ("[[A]]", "<think>[[A]]</think>[[B]]")),
        played(82, 1, ("tie", "tie"), ("[[B]]", "[[A]]")),  # says a loss in both
        played(82, 2, ("model_1", "model_1")),
    ]
    report, messages = score_command(write_rows(tmp_path / "pair.jsonl", rows))
    (score,) = report["scores"]
    assert score["metrics"]["win_rate_adjusted"]["value"] == pytest.approx(100 * 2 / 3)
    assert score["show_result"] == pytest.approx(100 * 3.5 / 4)
    assert (score["n_valid"], score["n_total"], score["differ"]) == (3, 4, 2)
    assert score["invalid"] == {CONTRADICTORY: 1}
    assert "87.50" in messages
    assert "text" in report["protocol"]["verdicts"]


@pytest.mark.parametrize(
    "failed",
    [
        played(81, 1, ("error", "model_2")),
        played(81, 1, ("model_1", "model_1"), ("[[A]] [[C]]", "[[B]]")),
        played(81, 1, ("error", "error"), ("$ERROR$", "$ERROR$")),
        played(81, 1, ("model_2", "error"), ("[[B]]", "<think>[[A]]")),
    ],
)
def test_a_failed_pair_gives_way_to_its_re_run(failed: Any, tmp_path: Path) -> None:
    again = played(81, 1, ("model_2", "model_2"), ("[[B]]", "[[A]]"))
    rest = [played(81, 2, ("model_2", "model_2"))]
    report, messages = score_command(write_rows(tmp_path / "pair.jsonl", [failed, *rest, again]))
    (score,) = report["scores"]
    assert (score["n_valid"], score["n_total"], score["errors"]) == (2, 2, 0)
    assert score["metrics"]["win_rate_adjusted"]["value"] == 0
    assert (score["replaced"], score["duplicates"]) == (1, 1)
    assert "m: 1 failed rows replaced by a re-run" in messages
    assert "repeat a pair" not in messages


def test_the_baseline_and_of_how_many_stand_in_the_table(tmp_path: Path) -> None:
    questions = [{"question_id": 81 + i, "category": "writing"} for i in range(80)]
    games = [played(81 + i, turn, ("model_1", "model_1")) for i in range(80) for turn in (1, 2)][:75]
    other = [row | {"model_1": "other"} for row in games[:3]]
    path = write_rows(tmp_path / "pair.jsonl", games + other)
    report, messages = score_command(path, "--questions", write_rows(tmp_path / "question.jsonl", questions))
    counts = {s["model"]: (s["n_valid"], s["n_total"], s["against"]) for s in report["scores"]}
    assert counts == {"m": (75, 160, "base"), "other": (3, 160, "base")}
    assert "75 / 160" in messages
    assert "85 of the expected questions and turns are missing" in messages


def test_a_small_p_prints_as_such(tmp_path: Path) -> None:
    rows = [rated(81 + i, t, s, model=m) for i in range(20) for t in (1, 2) for m, s in (("a", 3), ("b", 7 + i % 2))]
    _, messages = score_command(write_rows(tmp_path / "single.jsonl", rows), "--reference", "a")
    assert "<0.001" in messages


# the cases that went wrong


@pytest.mark.parametrize(
    ("name", "metric", "value", "official", "counts"),
    [
        ("01-several-verdicts/single.jsonl", "rating", 25 / 3, 7.0, (3, 4)),
        ("01-several-verdicts/pair.jsonl", "win_rate_adjusted", 50.0, 62.5, (3, 4)),
        ("20-odd-ratings/single.jsonl", "rating", (7.5 + 2 + 8) / 3, 20.5, (3, 8)),
        ("20-odd-ratings/nan.jsonl", "rating", 23 / 3, 23 / 3, (3, 4)),
        ("20-odd-ratings/null.jsonl", "rating", 8.0, 8.0, (1, 2)),
        ("20-odd-ratings/strid.jsonl", "rating", 7.5, 7.5, (2, 2)),
        ("13-unicode/single.jsonl", "rating", 8.0, 8.0, (4, 4)),
    ],
)
def test_cases(name: str, metric: str, value: float, official: float, counts: tuple[int, int]) -> None:
    report, _ = score_command(cases(*name.split("/")))
    (score,) = report["scores"]
    assert score["metrics"][metric]["value"] == pytest.approx(value)
    assert score["show_result"] == pytest.approx(official)
    assert (score["n_valid"], score["n_total"]) == counts


@pytest.mark.parametrize(("name", "key"), [("string.jsonl", "'score'"), ("turnnull.jsonl", "'turn'")])
def test_cases_that_break_the_layout(name: str, key: str) -> None:
    _, messages = score_command(cases("20-odd-ratings", name), code=2)
    assert f"{name}, line 1: the key {key}" in messages
