"""Arena-Hard: which text is a verdict, which row counts, which baseline it is, and the official value beside ours."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from conftest import golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.arena_files import Row, answered, judged, only, score_command, stored, told, win_rate, write_rows
from kit.evaluation_cases import cases

from benchmarks.arena_hard.official import ArenaHard01, ArenaHard20
from benchmarks.arena_hard.question_set import OFFICIAL, OFFICIAL_IDS, set_label
from benchmarks.arena_hard.score_columns import RANGES, columns_of_games
from benchmarks.arena_hard.score_files import score_judgment_files
from benchmarks.arena_hard.verdict import UNKNOWN_LABEL, is_asked_again, read_label
from benchmarks.shared.score_report import score_tables
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
from harness.errors import UserError
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
    report, told = score_command(folder / "games.jsonl")
    assert (only(report)["n_valid"], only(report)["n_total"]) == (4, 10)
    assert only(report)["invalid"] == {"no game": 6}
    assert "rows with more than two games (the first two count, as in the official tool): 1" in told
    report, _ = score_command(folder / "odd_labels.jsonl")
    assert only(report)["invalid"] == {NO_LABEL: 7, UNKNOWN_LABEL: 2, CONTRADICTORY: 1}
    report, _ = score_command(folder / "m1.jsonl", "--answers", folder / "answers.jsonl")
    assert only(report)["metrics"]["style_controlled"]["value"] is not None
    for name, sentence in (("null", "has no text"), ("nolen", "has no token_len")):
        _, told = score_command(folder / "m1.jsonl", "--answers", folder / f"{name}.jsonl", code=2)
        assert f"{name}.jsonl, line 44: the answer of m1 to q3 {sentence}" in told


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
    _, told = score_command(write_rows(tmp_path / "m.jsonl", rows), code=2)
    assert "m.jsonl, " in told
    assert sentence in told


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
    report, told = score_command(write_rows(tmp_path / "m.jsonl", rows))
    reasons = {"no game": 7, NO_LABEL: 1, UNANSWERED: 2, EMPTY_REPLY: 1, UNKNOWN_LABEL: 1}
    assert only(report)["invalid"] == reasons
    assert (only(report)["n_valid"], only(report)["n_total"]) == (2, 14)
    assert win_rate(report) == pytest.approx(100 * (1 + 0) / 2)
    assert "games that are not valid: 1 empty reply, 7 no game" in told


# which row counts


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        (told("", ""), "two empty replies"),
        (told("[[A>B]]", "<think>it is [[A>B]]"), "one game"),
        (told("[[A>B]] or [[B>A]]", "no label"), "contradictory"),
        ([None, None], "null games"),
        (None, "no games at all"),
    ],
)
@pytest.mark.parametrize("version", ["v0.1", "v2.0"])
def test_a_failed_row_is_replaced_by_its_re_run(failed: Any, reason: str, version: Version, tmp_path: Path) -> None:
    good, better = told("[[B>A]]", "[[A>B]]"), told("[[A>>B]]", "[[B>>A]]")
    rows = [judged("a", failed), judged("b", good), judged("a", good), judged("a", better), judged("b", better)]
    report, told_ = score_command(write_rows(tmp_path / "m.jsonl", rows), "--protocol", version)
    assert win_rate(report) == pytest.approx(100), reason
    counts = {key: only(report)[key] for key in ("rows", "duplicates", "replaced", "n_valid", "n_total")}
    assert counts == {"rows": 5, "duplicates": 3, "replaced": 1, "n_valid": 4, "n_total": 4}
    assert "m: 1 failed rows replaced by a re-run" in told_
    assert "m: 2 rows repeat a question: the first valid one counts" in told_


def test_of_failed_rows_alone_the_fullest_counts(tmp_path: Path) -> None:
    """v0.1 takes a game whose partner failed; such a row is no worse than one that failed whole."""
    rows = [judged("a", told("", "")), judged("a", told("[[B>A]]", "")), judged("a", told("", "[[B>A]]"))]
    report, _ = score_command(write_rows(tmp_path / "m.jsonl", [*rows, judged("b", told("[[B>A]]", "[[A>B]]"))]))
    assert (win_rate(report), only(report)["n_valid"], only(report)["replaced"]) == (pytest.approx(100), 3, 1)


def test_two_files_of_one_model_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "x.jsonl", [judged("a", told("", "")), judged("b", stored("B>A", "A>B"))])
    write_rows(tmp_path / "y.jsonl", [judged("a", stored("B>A", "A>B"))])
    report, told_ = score_command(tmp_path)
    assert only(report)["n_valid"] == 4
    assert "m: it stands in x.jsonl and y.jsonl" in told_


# text and stored label


@pytest.mark.parametrize(
    ("version", "rows", "ours", "official", "differ"),
    [
        ("v0.1", [judged("a", told("[[B>A]]", "[[B>A]]", label="A>B"))], 50, 50, 1),
        ("v0.1", [judged("a", told("<think>[[A>B]]</think>[[B>A]]", "[[A=B]]", label="A>B"))], 75, 50, 1),
        ("v0.1", [judged("a", told("[[B>A]]", "[[A>B]]"))], 100, None, 1),
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
    report, told_ = score_command(write_rows(tmp_path / "m.jsonl", rows), "--protocol", version)
    assert win_rate(report) == pytest.approx(ours)
    assert only(report)["official"] == (official if official is None else pytest.approx(official))
    assert only(report)["differ"] == 2 * differ
    assert list(report["shown_facts"]) == ["official", "differ"]
    assert ("no official value" in told_) == (official is None)
    assert ("store another label than their judgment text says" in told_) == bool(differ)


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


# the baseline


def test_who_names_the_baseline(tmp_path: Path) -> None:
    plain = [judged("a", stored("B>A", "A>B")), judged("b", stored("B>A", "A>B"))]
    path = write_rows(tmp_path / "m.jsonl", plain)
    for arguments, name, source in (
        ((), "gpt-4-0314", "assumed: the rows name none"),
        (("--protocol", "v2.0"), "o3-mini-2025-01-31", "assumed: the rows name none"),
        (("--baseline", "phi"), "phi", "named by --baseline"),
    ):
        report, told_ = score_command(path, *arguments)
        assert (report["protocol"]["baseline"], report["protocol"]["baseline_source"]) == (name, source)
        assert f"against {name} ({source.split()[0]}" in told_
    named = write_rows(tmp_path / "named.jsonl", [row | {"baseline": "phi"} for row in plain])
    for arguments in ((), ("--baseline", "phi")):
        report, _ = score_command(named, *arguments)
        assert (report["protocol"]["baseline"], report["protocol"]["baseline_source"]) == ("phi", "named in the rows")
    _, told_ = score_command(named, "--baseline", "gpt-4-0314", code=2)
    assert "named.jsonl names the baseline phi: leave out --baseline gpt-4-0314" in told_
    mixed = write_rows(tmp_path / "mixed.jsonl", [plain[0] | {"baseline": "phi"}, plain[1]])
    _, told_ = score_command(mixed, code=2)
    assert "mixes baselines (gpt-4-0314, phi)" in told_
    report, _ = score_command(mixed, "--baseline", "phi")
    assert report["protocol"]["baseline"] == "phi"


def test_a_judged_model_is_not_the_assumed_baseline(tmp_path: Path) -> None:
    rows = [judged(q, stored("B>A", "A>B"), model) for q in "ab" for model in ("m", "gpt-4-0314")]
    path = write_rows(tmp_path / "m.jsonl", rows)
    _, told_ = score_command(path, code=2)
    assert "judges gpt-4-0314 itself" in told_
    assert "give --baseline" in told_
    report, _ = score_command(path, "--baseline", "phi")
    assert len(report["scores"]) == 2


def test_answers_are_checked_for_the_baseline(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", [judged(q, stored("B>A", "A>>B")) for q in "ab"])
    answers = [answered(q, name, "x " * n, n) for q in "ab" for n, name in enumerate(("m", "phi"), 2)]
    file = write_rows(tmp_path / "answers.jsonl", answers)
    _, told_ = score_command(path, "--answers", file)
    assert "no style-controlled score: the answers hold none of gpt-4-0314, the baseline (assumed" in told_
    report, _ = score_command(path, "--answers", file, "--baseline", "phi")
    assert "style_controlled" in only(report)["metrics"]
    _, told_ = score_command(path, "--answers", file, "--baseline", "nobody", code=2)
    assert "holds no answers of --baseline nobody" in told_


# layouts


def battles_of(scores: list[float], question: str, model: str, baseline: str = "gpt-4-0314") -> list[Row]:
    """Rows of ``arena_hard_battles.jsonl``."""
    winners = {0: "model_a", 1: "model_b", 0.5: "tie"}
    return [{"question_id": question, "model_a": baseline, "model_b": model, "winner": winners[s]} for s in scores]


def test_published_battles_in_the_layout_of_upstream(tmp_path: Path) -> None:
    text = golden("arena_hard", "battles_official_v0.1.jsonl").read_text(encoding="utf-8")
    compact = [json.loads(line) for line in text.split("\n") if line]
    rows = [row for b in compact for row in battles_of(b["scores"], b["question_id"], b["model"])]
    report, told_ = score_command(write_rows(tmp_path / "arena_hard_battles.jsonl", rows))
    published = {"gpt-4-0613": 37.90, "gpt-3.5-turbo-0125": 23.34}
    assert {r["model"]: pytest.approx(r["metrics"]["win_rate"]["value"], abs=0.005) for r in report["scores"]} == (
        published
    )
    assert all(r["official"] == pytest.approx(r["metrics"]["win_rate"]["value"]) for r in report["scores"])
    assert {(r["n_valid"], r["n_total"]) for r in report["scores"]} == {(500, 500)}
    assert (report["protocol"]["set"], report["protocol"]["baseline"]) == (OFFICIAL, "gpt-4-0314")
    assert report["protocol"]["baseline_source"] == "named in the rows"
    assert report["protocol"]["verdicts"]["read_from"] == "battles"
    assert "questions are counted instead of games" in told_


def test_battles_that_are_none(tmp_path: Path) -> None:
    good = battles_of([1, 0, 0], "a", "m") + battles_of([0.5], "b", "m")
    name = "arena_hard_battles.jsonl"
    report, _ = score_command(write_rows(tmp_path / name, good))
    assert win_rate(report) == pytest.approx(100 * 1.5 / 4)
    for row, sentence in (
        (good[0] | {"winner": "model_c"}, f"{name}, line 1: the key 'winner' holds 'model_c'"),
        (good[0] | {"model_b": None}, f"{name}, line 1: the key 'model_b' holds null: a text is expected"),
        ({"winner": "tie", "model_a": "x", "model_b": "m"}, "line 1: the key 'question_id' (or 'uid') is missing"),
        (good[0] | {"model_a": "phi"}, "mixes baselines (gpt-4-0314, phi)"),
    ):
        _, told_ = score_command(write_rows(tmp_path / name, [row, *good[1:]]), code=2)
        assert sentence in told_
    _, told_ = score_command(write_rows(tmp_path / name, good), "--protocol", "v2.0", code=2)
    assert "holds battles, which v0.1 writes" in told_
    report, told_ = score_command(write_rows(tmp_path / name, [*battles_of([1] * 9, "a", "m"), *good[3:]]))
    assert "questions with more than 6 battles, that is judged repeatedly: 1" in told_


def test_answers_are_known_by_their_rows_or_by_their_file(tmp_path: Path) -> None:
    """The inner name first; a file that is called like the model where no row is."""
    path = write_rows(tmp_path / "judged.jsonl", [judged(q, stored("B>A", "A>>B"), "run-7") for q in "ab"])
    folder = tmp_path / "answers"
    for n, name in enumerate(("run-7", "gpt-4-0314")):
        rows = [answered(q, f"/models/{name}", "x " * (n + i + 1), n + i + 1) for i, q in enumerate("ab")]
        write_rows(folder / f"{name}.jsonl", rows)
    by_file, _ = score_command(path, "--answers", folder)
    assert "style_controlled" in only(by_file)["metrics"]
    both = [answered(q, "run-7", "# Head\n" * 40, 99) for q in "ab"]
    write_rows(folder / "other.jsonl", both)
    by_row, _ = score_command(path, "--answers", folder)
    assert by_row["style"]["mean"] != by_file["style"]["mean"]
    write_rows(folder / "another.jsonl", both)
    _, told_ = score_command(path, "--answers", folder, code=2)
    assert "another.jsonl and " in told_
    assert "other.jsonl both hold answers of run-7" in told_
    write_rows(folder / "run-7.jsonl", both)
    report, _ = score_command(path, "--answers", folder)
    assert report["style"] == by_row["style"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"choices": [{"turns": [{"content": None, "token_len": 3}]}]}, "line 2: the answer of gpt-4-0314 to a has no"),
        ({"choices": []}, "has no text"),
        ({"choices": [{"turns": []}]}, "has no text"),
        ({"choices": None, "messages": []}, "has no text"),
        ({"choices": [{"turns": [{"content": "x", "token_len": -1}]}]}, "'choices[0].turns[0].token_len' holds -1"),
        ({"choices": [{"turns": [{"content": "x", "token_len": "9"}]}]}, "a number of tokens is expected"),
        ({"choices": [{"turns": [{"content": "x"}]}]}, "line 2: the answer of gpt-4-0314 to a has no token_len"),
        ({"choices": "x"}, "line 2: the key 'choices' holds"),
        ({"conv_metadata": 5}, "line 2: the key 'conv_metadata' holds 5: an object is expected"),
        ({"model_id": 5}, "line 2: the key 'model_id' holds 5"),
    ],
)
def test_answers_of_wrong_types_are_one_sentence(change: Row, sentence: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "judged.jsonl", [judged("a", stored("B>A", "A>>B"))])
    rows = [answered("a", "m"), answered("a", "gpt-4-0314") | change]
    _, told_ = score_command(path, "--answers", write_rows(tmp_path / "answers.jsonl", rows), code=2)
    assert "answers.jsonl, " in told_
    assert sentence in told_


def test_an_answer_that_failed_is_replaced_by_its_re_run(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "judged.jsonl", [judged(q, stored("B>A", "A>>B")) for q in "ab"])
    rows = [answered(q, name, "x " * n, n) for q in "ab" for n, name in enumerate(("m", "gpt-4-0314"), 2)]
    failed = rows[0] | {"choices": [{"turns": [{"content": None}]}]}
    for answers in ([failed, *rows], [*rows, failed]):
        report, _ = score_command(path, "--answers", write_rows(tmp_path / "answers.jsonl", answers))
        assert "style_controlled" in only(report)["metrics"]


# which set it is


def test_the_official_ids_are_those_of_the_published_questions() -> None:
    for version, category in OFFICIAL_IDS:
        text = golden("arena_hard", f"question_{version}.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.split("\n") if line]
        ids = [r["uid"] for r in rows if category in (None, r["category"])]
        assert len(ids) == OFFICIAL_IDS[version, category].size
        assert set_label(reversed(ids), version, category) == OFFICIAL
        assert set_label(ids[1:], version, category).startswith(f"{len(ids) - 1} questions, not the official set")
        assert set_label([*ids[1:], "other"], version, category) != OFFICIAL
        assert set_label([*ids, ids[0]], version, category) != OFFICIAL


def test_a_small_folder_is_not_the_official_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    for count, kind in ((3, ArenaHard01), (1, ArenaHard01), (2, ArenaHard20)):
        folder = tmp_path / "arena_hard"
        rows = [{"uid": f"q{i}", "prompt": "x", "category": "hard_prompt"} for i in range(count)]
        write_rows(folder / f"question_{kind.release}.jsonl", rows)
        benchmark = kind(kind.Options(length="characters"))
        assert benchmark._set_label().startswith(f"{count} questions, not the official set")
        assert kind(kind.Options(limit=99))._set_label().startswith(f"{count} questions, not the official set")
    assert ArenaHard20(ArenaHard20.Options(limit=1))._set_label() == "first 1 prompts"
    official = golden("arena_hard", "question_v0.1.jsonl").read_text(encoding="utf-8")
    (tmp_path / "arena_hard" / "question_v0.1.jsonl").write_text(official, encoding="utf-8")
    assert ArenaHard01()._set_label() == OFFICIAL


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"uid": "a"}, "line 1: the question a has no prompt"),
        ({"uid": "a", "turns": []}, "line 1: the question a has no prompt"),
        ({"uid": "a", "turns": 3}, "line 1: the key 'turns' holds 3"),
        ({"uid": "a", "prompt": 3}, "line 1: the key 'prompt' holds 3"),
        ({"prompt": "x"}, "line 1: the key 'question_id' (or 'uid') is missing"),
        ({"uid": True, "prompt": "x"}, "line 1: the key 'uid' holds true"),
    ],
)
def test_questions_of_wrong_types_are_one_sentence(
    row: Row, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    write_rows(tmp_path / "arena_hard" / "question_v0.1.jsonl", [row])
    with pytest.raises(UserError) as error:
        ArenaHard01().prompt_texts()
    assert sentence in str(error.value)


# anything


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["[[A>B]]", "A>B", "m", "\ud83d", "tie", "model_b", "gpt-4-0314"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list("abc")), inner, max_size=2),
    max_leaves=4,
)
GAME = st.fixed_dictionaries({}, optional={"judgment": ANYTHING, "score": ANYTHING}) | ANYTHING
JUDGMENT = st.fixed_dictionaries(
    {"games": st.lists(GAME, max_size=3) | ANYTHING},
    optional=dict.fromkeys(("question_id", "uid", "model", "judge", "baseline", "category"), ANYTHING),
)
BATTLE = st.fixed_dictionaries(
    {"winner": st.sampled_from(["model_a", "tie"]) | ANYTHING},
    optional=dict.fromkeys(("question_id", "model_a", "model_b"), ANYTHING),
)
TURN = st.fixed_dictionaries({}, optional={"content": ANYTHING, "token_len": ANYTHING}) | ANYTHING
ANSWER = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"turns": st.lists(TURN, max_size=2) | ANYTHING}), max_size=2)},
    optional=dict.fromkeys(
        ("question_id", "uid", "model_id", "model", "answer", "token_len", "metadata", "messages"), ANYTHING
    ),
)
GOOD = [judged(q, stored("B>A", "A>>B")) for q in "ab"]
GOOD_ANSWERS = [answered(q, name) for q in "ab" for name in ("m", "gpt-4-0314")]


def check_values(path: Path, answers: Path | None, version: Version) -> None:
    """A report whose values are in their ranges, or one sentence."""
    try:
        report = score_judgment_files(path, answers, version).report.as_json()
    except UserError as error:
        assert "\n" not in str(error)
        return
    score_tables(report)
    json.dumps(report, ensure_ascii=False, allow_nan=False).encode()
    for row in report["scores"]:
        assert 0 <= row["n_valid"] <= row["n_total"]
        for value in (
            row["official"],
            *(v for m in row["metrics"].values() for v in (m["value"], m["low"], m["high"])),
        ):
            assert value is None or (math.isfinite(value) and -1e-9 <= value <= 100 + 1e-9)


@given(st.lists(JUDGMENT, min_size=1, max_size=2), st.booleans(), st.sampled_from(["v0.1", "v2.0"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_in_judgments(tmp_path: Path, rows: list[Row], beside: bool, version: Version) -> None:
    check_values(write_rows(tmp_path / "m.jsonl", [*(GOOD if beside else []), *rows]), None, version)


@given(st.lists(BATTLE, min_size=1, max_size=3))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_in_battles(tmp_path: Path, rows: list[Row]) -> None:
    check_values(write_rows(tmp_path / "m.jsonl", [*battles_of([1, 0], "a", "m"), *rows]), None, "v0.1")


@given(st.lists(ANSWER, min_size=1, max_size=2), st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_in_answers(tmp_path: Path, rows: list[Row], first: bool) -> None:
    answers = [*rows, *GOOD_ANSWERS] if first else [*GOOD_ANSWERS, *rows]
    check_values(write_rows(tmp_path / "m.jsonl", GOOD), write_rows(tmp_path / "answers.jsonl", answers), "v0.1")
