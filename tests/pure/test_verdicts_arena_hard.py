"""Arena-Hard: which text is a verdict, which row counts, and the official value beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import golden
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.arena_files import Row, judged, only, score_command, stored, win_rate, with_texts
from kit.evaluation_cases import cases
from kit.rows import write_rows

from benchmarks.arena_hard.official import ArenaHard01, ArenaHard20
from benchmarks.arena_hard.score_columns import RANGES, columns_of_games
from benchmarks.arena_hard.verdict import UNKNOWN_LABEL, is_asked_again, read_label
from harness.answer.reply import EMPTY, REFUSED, Reply
from harness.answer.verdict import (
    CONTRADICTORY,
    CUT,
    EMPTY_REPLY,
    NO_LABEL,
    REFUSED_REPLY,
    UNANSWERED,
    UNFINISHED_THINKING,
)
from harness.score.bradley_terry import Version
from harness.score.validity import Invalid, checked_columns

# labels


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("My final verdict is [[A>>B]].", "A>>B", "A>>B"),
        ("[[A>B]] and again [[A>B]]", "A>B", "A>B"),
        ("At first [[A>B]], on reflection [[B>A]]", CONTRADICTORY, "B>A"),
        ("[[B>A]] ... [[A=B]] ... [[A>>B]]", CONTRADICTORY, "A>>B"),
        ("<think>[[A>B]] perhaps</think>\nSo: [[B>A]]", "B>A", "B>A"),
        ("<thinking>\nA is [[A>>B]]\n</thinking>[[A=B]]", "A=B", "A=B"),
        ("[THINK]no [[B>A]][/THINK] Verdict: [[A>B]]", "A>B", "A>B"),
        ("I think [[B>A]]</think>\n[[A>B]]", "A>B", "A>B"),
        ("<think>first [[A>B]] or [[B>A]], I am not", UNFINISHED_THINKING, UNFINISHED_THINKING),
        ("<reasoning>[[A>>B]]", UNFINISHED_THINKING, UNFINISHED_THINKING),
        ("<think>[[A>B]]</think>", NO_LABEL, NO_LABEL),
        ("[[a>b]]", NO_LABEL, "A>B"),
        ("[B>A]", NO_LABEL, "B>A"),
        ("[[A>>A]]", UNKNOWN_LABEL, UNKNOWN_LABEL),
        ("[[A<B]]", UNKNOWN_LABEL, "B>A"),
        ("[[B<<A]]", UNKNOWN_LABEL, "A>>B"),
        ("[[B=A]]", UNKNOWN_LABEL, "A=B"),
        ("[[A]] then [[A>B]]", CONTRADICTORY, "A>B"),
        ("[[A > B]]", NO_LABEL, NO_LABEL),
        ("**A>B**", NO_LABEL, NO_LABEL),
        ("Assistant A is better.", NO_LABEL, NO_LABEL),
        ("", EMPTY_REPLY, EMPTY_REPLY),
        ("  \n", EMPTY_REPLY, EMPTY_REPLY),
    ],
)
def test_labels_of_both_releases(text: str, old: str, new: str) -> None:
    for version, expected in (("v0.1", old), ("v2.0", new)):
        label, reason = read_label(text, version)  # type: ignore[arg-type]
        assert (label or reason) == expected
        assert (label is None) == bool(reason)


@pytest.mark.parametrize(
    ("reply", "reason", "again"),
    [
        (Reply("I like B."), NO_LABEL, True),
        (Reply("<think>x</think>I like B."), NO_LABEL, True),
        (Reply("The answer of A", finish="length"), CUT, True),
        (Reply("<think>The answer [[A>B]]", finish="length"), UNFINISHED_THINKING, False),
        (Reply("[[A>B]] [[B>A]]"), CONTRADICTORY, False),
        (Reply("[[A<B]]"), UNKNOWN_LABEL, False),
        (Reply("", error=EMPTY), EMPTY_REPLY, False),
        (Reply("", error=EMPTY, finish="length"), CUT, False),
        (Reply(None, error=REFUSED + "a filter"), REFUSED_REPLY, False),
        (Reply(None, error="timeout"), UNANSWERED, False),
    ],
)
def test_who_is_asked_again(reply: Reply, reason: str, again: bool) -> None:
    """A judge that wrote something without a label; what is final, or nothing, is not asked again."""
    assert read_label(reply, "v0.1") == (None, reason)
    assert is_asked_again(reply) == again


def test_a_label_counts_in_a_reply_that_is_cut_behind_it() -> None:
    assert read_label(Reply("[[A>B]] because", finish="length"), "v0.1").value == "A>B"
    assert not is_asked_again(Reply("[[A>B]] because", finish="length"))


@given(st.text(alphabet="AB<>=[] \n\\*<think>/a0") | st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_known_label_or_a_reason(text: str) -> None:
    for version in ("v0.1", "v2.0"):
        label, reason = read_label(text, version)  # type: ignore[arg-type]
        assert label in ("A>>B", "A>B", "A=B", "B>A", "B>>A") if not reason else label is None


# in a comparison


def test_stored_games_of_a_comparison_keep_their_reasons() -> None:
    rest = {"answer": {"text": "x", "truncated": False}, "baseline_length": 1, "style": [1.0] * 4}
    rest["baseline_style"] = [1.0] * 4
    judge = ArenaHard01._game
    replies = ["[[A>B]]", "<think>[[A>B]]", "no", "[[A>B]] [[B>A]]", "[[B>>A]]", "[[A<B]]"]
    games = [judge(ArenaHard01, [Reply(text, model="j")]) for text in replies]  # type: ignore[arg-type]
    assert [game.get("reason", "") for game in games] == [
        "", UNFINISHED_THINKING, NO_LABEL, CONTRADICTORY, "", UNKNOWN_LABEL,
    ]  # fmt: skip
    rows = [{"id": i, "games": games[2 * i : 2 * i + 2], **rest} for i in range(3)]
    columns = columns_of_games(json.loads(json.dumps(rows)), "v0.1")
    assert columns["score"] == [
        [0.0, Invalid(UNFINISHED_THINKING)],
        [Invalid(NO_LABEL), Invalid(CONTRADICTORY)],
        [1.0, Invalid(UNKNOWN_LABEL)],
    ]
    whole = checked_columns({"i": columns_of_games(rows, "v2.0")}, [], RANGES).columns["i"]
    assert whole["score"] == [[None, None]] * 3


def test_the_second_attempt_decides_and_an_old_row_needs_no_reason() -> None:
    game = ArenaHard01._game(ArenaHard01, [Reply("hm", model="j"), Reply("[[A=B]]")])  # type: ignore[arg-type]
    assert (game["label"], game["judgment"], game["judge"]) == ("A=B", "hm\n[[A=B]]", "j")
    game = ArenaHard01._game(ArenaHard01, [Reply("hm"), Reply(None, error="timeout")])  # type: ignore[arg-type]
    assert (game["label"], game["reason"], game["error"]) == (None, UNANSWERED, "timeout")
    game = ArenaHard20._game(ArenaHard20, [Reply("[[A>B]] no, [[B>A]]")])  # type: ignore[arg-type]
    assert (game["label"], game.get("reason")) == ("B>A", None)


# files: cases that went wrong, and their kinds


def test_case_01_several_verdicts() -> None:
    path = cases("01-several-verdicts", "arena.jsonl")
    report, _ = score_command(path)
    assert (only(report)["n_valid"], only(report)["n_total"]) == (5, 6)
    assert only(report)["invalid"] == {CONTRADICTORY: 1}
    assert win_rate(report) == pytest.approx(100 * (1 + 2 + 1) / 5)
    report, _ = score_command(path, "--protocol", "v2.0")
    assert only(report)["n_valid"] == 6
    assert win_rate(report) == pytest.approx(100 * 5 / 6)
    assert report["protocol"]["verdicts"]["rule"] == "the last label counts"


def test_case_14_special_rows() -> None:
    folder = cases("14-special")
    report, notes = score_command(folder / "games.jsonl")
    assert (only(report)["n_valid"], only(report)["n_total"]) == (4, 10)
    assert only(report)["invalid"] == {"no game": 6}
    assert "rows with more than two games (the first two count, as in the official tool): 1" in notes
    report, _ = score_command(folder / "odd_labels.jsonl")
    assert only(report)["invalid"] == {NO_LABEL: 7, UNKNOWN_LABEL: 2, CONTRADICTORY: 1}
    report, _ = score_command(folder / "m1.jsonl", "--answers", folder / "answers.jsonl")
    assert only(report)["metrics"]["style_controlled"]["value"] is not None
    for name, sentence in (("null", "has no text"), ("nolen", "has no token_len")):
        _, notes = score_command(folder / "m1.jsonl", "--answers", folder / f"{name}.jsonl", code=2)
        assert f"{name}.jsonl, line 44: the answer of m1 to q3 {sentence}" in notes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"games": 3}, "line 2: the key 'games' holds 3: a list is expected"),
        ({"games": ["A>B"]}, "line 2: the key 'games[0]' holds \"A>B\": an object is expected"),
        ({"games": [None, {"score": 1}]}, "line 2: the key 'games[1].score' holds 1: a text is expected"),
        ({"games": [{"judgment": ["[[A>B]]"]}]}, "'games[0].judgment' holds [\"[[A>B]]\"]: a text, or an object"),
        ({"games": [{"judgment": {"answer": 7}}]}, "a text, or an object with a text 'answer', is expected"),
        ({"model": 4}, "line 2: the key 'model' holds 4: a text is expected"),
        ({"judge": ["j", "p"]}, "line 2: the key 'judge' holds"),
        ({"question_id": [1]}, "line 2: the key 'question_id' holds [1]"),
        ({"question_id": None}, "line 2: the key 'question_id' (or 'uid') is missing"),
        ({"category": 3}, "line 2: the key 'category' holds 3"),
        ({"baseline": {}}, "line 2: the key 'baseline' holds {}"),
    ],
)
def test_wrong_types_are_one_sentence(change: Row, sentence: str, tmp_path: Path) -> None:
    rows = [judged("a", stored("A>B", "B>A")), judged("b", stored("A>B", "B>A")) | change]
    _, notes = score_command(write_rows(tmp_path / "m.jsonl", rows), code=2)
    assert "m.jsonl, " in notes
    assert sentence in notes


def test_missing_games_are_counted(tmp_path: Path) -> None:
    rows = [
        judged("a", None),
        judged("b", []),
        judged("c", [None]),
        judged("d", [None, {}]),
        judged("e", [{"judgment": None}, {"judgment": {"answer": None}}]),
        judged("f", [{"judgment": "", "score": "A>B"}, {"judgment": {"answer": "[[A>B]]"}}]),
        judged("g", stored("None", "B>A")),
    ]
    report, notes = score_command(write_rows(tmp_path / "m.jsonl", rows))
    reasons = {"no game": 7, NO_LABEL: 1, UNANSWERED: 2, EMPTY_REPLY: 1, UNKNOWN_LABEL: 1}
    assert only(report)["invalid"] == reasons
    assert (only(report)["n_valid"], only(report)["n_total"]) == (2, 14)
    assert win_rate(report) == pytest.approx(100 * (1 + 0) / 2)
    assert "games that are not valid: 1 empty reply, 7 no game" in notes


# which row counts


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        (with_texts("", ""), "two empty replies"),
        (with_texts("[[A>B]]", "<think>it is [[A>B]]"), "one game"),
        (with_texts("[[A>B]] or [[B>A]]", "no label"), "contradictory"),
        ([None, None], "null games"),
        (None, "no games at all"),
    ],
)
@pytest.mark.parametrize("version", ["v0.1", "v2.0"])
def test_a_failed_row_is_replaced_by_its_re_run(failed: Any, reason: str, version: Version, tmp_path: Path) -> None:
    good, better = with_texts("[[B>A]]", "[[A>B]]"), with_texts("[[A>>B]]", "[[B>>A]]")
    rows = [judged("a", failed), judged("b", good), judged("a", good), judged("a", better), judged("b", better)]
    report, notes = score_command(write_rows(tmp_path / "m.jsonl", rows), "--protocol", version)
    assert win_rate(report) == pytest.approx(100), reason
    counts = {key: only(report)[key] for key in ("rows", "duplicates", "replaced", "n_valid", "n_total")}
    assert counts == {"rows": 5, "duplicates": 3, "replaced": 1, "n_valid": 4, "n_total": 4}
    assert "m: 1 failed rows replaced by a re-run" in notes
    assert "m: 2 rows repeat a question: the first valid one counts" in notes


def test_of_failed_rows_alone_the_fullest_counts(tmp_path: Path) -> None:
    """v0.1 takes a game whose partner failed; such a row is no worse than one that failed whole."""
    rows = [
        judged("a", with_texts("", "")),
        judged("a", with_texts("[[B>A]]", "")),
        judged("a", with_texts("", "[[B>A]]")),
    ]
    report, _ = score_command(write_rows(tmp_path / "m.jsonl", [*rows, judged("b", with_texts("[[B>A]]", "[[A>B]]"))]))
    assert (win_rate(report), only(report)["n_valid"], only(report)["replaced"]) == (pytest.approx(100), 3, 1)


def test_two_files_of_one_model_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "x.jsonl", [judged("a", with_texts("", "")), judged("b", stored("B>A", "A>B"))])
    write_rows(tmp_path / "y.jsonl", [judged("a", stored("B>A", "A>B"))])
    report, notes = score_command(tmp_path)
    assert only(report)["n_valid"] == 4
    assert "m: it stands in x.jsonl and y.jsonl" in notes


# text and stored label


@pytest.mark.parametrize(
    ("version", "rows", "ours", "official", "differ"),
    [
        ("v0.1", [judged("a", with_texts("[[B>A]]", "[[B>A]]", label="A>B"))], 50, 50, 1),
        ("v0.1", [judged("a", with_texts("<think>[[A>B]]</think>[[B>A]]", "[[A=B]]", label="A>B"))], 75, 50, 1),
        ("v0.1", [judged("a", with_texts("[[B>A]]", "[[A>B]]"))], 100, None, 1),
        ("v0.1", [judged("a", stored("B>A", "A>B"))], 100, 100, 0),
        ("v0.1", [judged("a", [{"judgment": "[[B>A]]"}, {"judgment": "[[A>B]]"}])], 100, None, 0),
        ("v0.1", [judged("a", stored("B>A", "A>>A"))], 100, 100, 0),
        ("v2.0", [judged("a", stored("B>A", "A>>A")), judged("b", stored("A>B", "A>B"))], 50, None, 0),
        ("v2.0", [judged("a", stored("A<B", "B=A"))], 75, 75, 0),
        ("v2.0", [judged("a", stored("B>A", None)), judged("b", stored("A>B", "A>B"))], 50, 50, 0),
    ],
)
def test_the_official_value_beside_ours(
    version: Version, rows: list[Row], ours: float, official: float | None, differ: int, tmp_path: Path
) -> None:
    """The judge's text counts here, the stored label in the official value; a second copy of the question keeps one
    prompt from being no measurement."""
    rows = [*rows, *({**row, "question_id": f"{row['question_id']}+"} for row in rows)]
    report, notes = score_command(write_rows(tmp_path / "m.jsonl", rows), "--protocol", version)
    assert win_rate(report) == pytest.approx(ours)
    assert only(report)["official"] == (official if official is None else pytest.approx(official))
    assert only(report)["differ"] == 2 * differ
    assert list(report["shown_facts"]) == ["official", "differ"]
    assert ("no official value" in notes) == (official is None)
    assert ("store another label than their judgment text says" in notes) == bool(differ)


def test_the_official_value_counts_repeats_as_the_official_tool_does(tmp_path: Path) -> None:
    rows = [judged("a", stored("B>A", "A>B")), judged("a", stored("A>>B", "B>>A")), judged("b", stored("B>A", "A>B"))]
    report, _ = score_command(write_rows(tmp_path / "m.jsonl", rows))
    assert (win_rate(report), only(report)["official"]) == (pytest.approx(100), pytest.approx(100 * 4 / 10))


def test_published_rows_agree_with_their_stored_labels() -> None:
    report, _ = score_command(golden("arena_hard", "judgments_raw_v2.0_gemini-2.5-flash.jsonl"), "--protocol", "v2.0")
    assert win_rate(report) == pytest.approx(only(report)["official"])
    assert only(report)["differ"] == 0
    report, _ = score_command(golden("arena_hard", "judgments_raw_gpt-4-1106-preview.jsonl"))
    for row in report["scores"]:
        assert (row["differ"], row["metrics"]["win_rate"]["value"]) == (0, pytest.approx(row["official"]))
