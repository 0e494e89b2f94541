"""What counts as a preference in AlpacaEval: replies, stored values, stored log-probabilities, repeated rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.alpaca_files import (
    annotation,
    completion,
    completion_for,
    instruction,
    score_of,
    set_rows,
    write_json,
    write_set,
)
from kit.evaluation_cases import cases

from benchmarks.alpaca_eval import AlpacaEval
from benchmarks.alpaca_eval.official import TEXT_HINT, AlpacaEval2, AlpacaEval2Options
from benchmarks.alpaca_eval.verdict import (
    NEITHER,
    is_switched,
    preference_from_logprobs,
    read_preference,
    stored_preference,
)
from harness.answer.reply import Call, Reply
from harness.answer.verdict import (
    CONTRADICTORY,
    CUT,
    EMPTY_REPLY,
    NO_LOGPROBS,
    REFUSED_REPLY,
    UNANSWERED,
    UNFINISHED_THINKING,
)
from harness.benchmark import benchmark_result
from harness.score.validity import NO_VALUE, NOT_A_NUMBER, NOT_FINITE

OUTSIDE = "outside 1 to 2"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("m", "m"),
        ("M", "M"),
        (" M\n", "M"),
        ("`m`", "m"),
        ('"M".', "M"),
        ("**m**", "m"),
        ("[[M]]", "M"),
        ("Model m", "m"),
        ("The best model is M.", "M"),
        ("## Best Model Identifier\nm", "m"),
        ("<think>\nM looks fine, but m is better.\n</think>\n\nm", "m"),
        ("I first thought m.\n</think>M", "M"),
        ("Both are good. Verdict: [[m]]", "m"),
    ],
)
@pytest.mark.parametrize("switched", [False, True])
def test_a_text_that_is_a_verdict(text: str, label: str, switched: bool) -> None:
    shown_first = label == "m"
    assert read_preference(Reply(text), switched, "text") == (2.0 if shown_first == switched else 1.0, "")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("Model m is better than model M."), NEITHER),
        (Reply("m or M"), NEITHER),
        (Reply("I'm sorry, but I can't help with judging this."), NEITHER),
        (Reply("A"), NEITHER),
        (Reply("mM"), NEITHER),
        (Reply("Mm."), NEITHER),
        (Reply("M&M"), NEITHER),
        (Reply("[[m]], no: [[M]]"), CONTRADICTORY),
        (Reply("<think>\nM"), UNFINISHED_THINKING),
        (Reply("<think>M</think>"), NEITHER),
        (Reply("The", finish="length"), CUT),
        (Reply("", finish="length", error="empty answer"), CUT),
        (Reply("", error="empty answer"), EMPTY_REPLY),
        (Reply(None, error="refused: filter"), REFUSED_REPLY),
        (Reply(None, error="timeout"), UNANSWERED),
    ],
)
def test_a_text_that_is_none(reply: Reply, reason: str) -> None:
    assert read_preference(reply, False, "text") == (None, reason)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("M"), NO_LOGPROBS),
        (Reply("<think>"), NO_LOGPROBS),
        (Reply("M", {"The": -0.1, " M": -2.0}), NEITHER),
        (Reply("M", {"M": -math.inf, "m": -math.inf}), NEITHER),
        (Reply("M", {"M": math.nan, "m": -0.1}), NOT_FINITE),
        (Reply("M", {"M": math.inf, "m": -0.1}), NOT_FINITE),
        (Reply("", finish="length"), CUT),
        (Reply("", error="empty answer"), EMPTY_REPLY),
        (Reply(None, error="refused: filter"), REFUSED_REPLY),
        (Reply(None, error="connection"), UNANSWERED),
    ],
)
def test_log_probabilities_that_are_none(reply: Reply, reason: str) -> None:
    assert read_preference(reply, True, "logprobs") == (None, reason)


def test_log_probabilities_of_any_size() -> None:
    """The ratio of two probabilities that are each beyond all floats, and a stand-in for minus infinity."""
    assert preference_from_logprobs({"m": -1000.0, "M": -1000.0 + math.log(3)}, False) == pytest.approx(1.75)
    assert preference_from_logprobs({"m": -9999.0, "M": 0.0}, False) == 2
    assert preference_from_logprobs({"m": 1000.0, "M": -1000.0}, True) == 2
    assert preference_from_logprobs({"M": -0.3}, True) == 1


NUMBERS = st.floats() | st.integers() | st.just(-math.inf)


@given(top=st.dictionaries(st.sampled_from(["m", "M", " m", "The"]), NUMBERS.map(float)), switched=st.booleans())
def test_any_log_probabilities_give_a_preference_or_none(top: dict[str, float], switched: bool) -> None:
    value, reason = read_preference(Reply("m", top), switched, "logprobs")
    assert (value is None and reason) or (1 <= value <= 2 and not reason)  # type: ignore[operator]


@given(st.text(st.characters() | st.sampled_from("mM[] .\n`*<>/think")), st.sampled_from(["", "length", "stop"]))
def test_any_text_gives_a_preference_or_a_reason(text: str, finish: str) -> None:
    value, reason = read_preference(Reply(text, finish=finish), False, "text")
    assert value in (1, 2) if value is not None else reason


@pytest.mark.parametrize(
    ("stored", "value", "reason"),
    [
        (1, 1.0, ""),
        (1.25, 1.25, ""),
        (2, 2.0, ""),
        (0, 1.5, ""),
        (0.0, 1.5, ""),
        (None, None, NO_VALUE),
        (3.0, None, OUTSIDE),
        (-1, None, OUTSIDE),
        (2.0001, None, OUTSIDE),
        (0.5, None, OUTSIDE),
        (math.nan, None, NOT_FINITE),
        (math.inf, None, NOT_FINITE),
        (10**400, None, NOT_FINITE),
        ("1.9", None, NOT_A_NUMBER),
        ("m", None, NOT_A_NUMBER),
        (True, None, NOT_A_NUMBER),
        (False, None, NOT_A_NUMBER),
        ([1.9], None, NOT_A_NUMBER),
        ({}, None, NOT_A_NUMBER),
    ],
)
def test_stored_preferences(stored: Any, value: float | None, reason: str) -> None:
    assert stored_preference(stored) == (value, reason)


# Files


@pytest.mark.parametrize(
    ("bad", "reason", "official"),
    [
        ([3.0, -1], OUTSIDE, 90.0),
        ([math.nan, 1e9, -0.5], {NOT_FINITE: 1, OUTSIDE: 2}, 90.0),
        (["1.1", "1.1"], NOT_A_NUMBER, 70.0),  # pandas reads a number in a text
        ([True, "no"], NOT_A_NUMBER, None),  # and fails on another one
        ([None, None, None], NO_VALUE, 90.0),
    ],
)
def test_bad_preferences_are_counted_by_reason_and_in_no_mean(
    bad: list[Any], reason: str | dict[str, int], official: float | None, tmp_path: Path
) -> None:
    rows = [annotation(i, p) for i, p in enumerate([*bad, *[1.9] * 6])]
    score = score_of(write_json(tmp_path / "ann.json", rows), write_set(tmp_path, len(rows)))
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(90)
    assert (score["n_valid"], score["n_total"]) == (6, len(rows))
    assert score["invalid"] == (reason if isinstance(reason, dict) else {reason: len(bad)})
    assert score["official_win_rate"] == (official if official is None else pytest.approx(official))
    hints = [w for w in score["warnings"] if "alpaca_eval's own win rate" in w]
    assert bool(hints) == (official == 70)


def test_0_is_a_draw_of_the_old_format(tmp_path: Path) -> None:
    rows = [annotation(i, p) for i, p in enumerate([0, 1, 0, 2])]
    score = score_of(write_json(tmp_path / "ann.json", rows), write_set(tmp_path, 4))
    assert (score["n_valid"], score["n_draws"], score["invalid"]) == (4, 2, {})
    assert score["metrics"]["win_rate"]["value"] == score["official_win_rate"] == 50


@pytest.mark.parametrize("column", ["absent", "null", "right", "as numbers"])
@pytest.mark.parametrize("value", [1.02, 1.7, 1.99])
def test_the_order_of_the_answers_follows_from_the_instruction(column: str, value: float, tmp_path: Path) -> None:
    rows = [annotation(i, None, raw_completion=completion_for(i, value)) for i in range(12)]
    orders = [is_switched(instruction(i)) for i in range(12)]
    assert {True, False} <= set(orders)
    for row, switched in zip(rows, orders, strict=True):
        if column != "absent":
            row["is_switched_outputs"] = {"null": None, "right": switched, "as numbers": float(switched)}[column]
    score = score_of(write_json(tmp_path / "ann.json", rows), write_set(tmp_path, 12))
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(100 * (value - 1))


def test_a_column_of_the_order_goes_before_the_instruction(tmp_path: Path) -> None:
    rows = [annotation(i, None, raw_completion=completion(0.9, 0.1), is_switched_outputs=True) for i in range(8)]
    score = score_of(write_json(tmp_path / "ann.json", rows), write_set(tmp_path, 8))
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(90)


LOGPROBS: list[tuple[Any, str]] = [
    ({"logprobs": {"content": [{"top_logprobs": None}]}, "message": {"content": "M"}}, NO_LOGPROBS),
    ({"logprobs": None, "message": {"content": "M"}}, NO_LOGPROBS),
    ({"logprobs": {"content": []}, "message": {"content": "M"}}, NO_LOGPROBS),
    ({"logprobs": {"content": [{"top_logprobs": 3}]}}, NO_LOGPROBS),
    ({"logprobs": {"content": [{"top_logprobs": [{"token": "M", "logprob": "low"}]}]}}, NO_LOGPROBS),
    ({"logprobs": {"content": [{"top_logprobs": [{"token": "The", "logprob": -0.1}]}]}, "message": {}}, NEITHER),
    ({"message": {"content": ""}, "finish_reason": "length"}, CUT),
    ({"message": {"content": None}, "finish_reason": "stop"}, EMPTY_REPLY),
    ({"message": {"content": None}, "finish_reason": "content_filter"}, REFUSED_REPLY),
    ("M", NO_LOGPROBS),
    ([1], NO_LOGPROBS),
    (None, NO_VALUE),
]


@pytest.mark.parametrize(("raw", "reason"), LOGPROBS)
def test_a_null_preference_says_why_there_is_none(raw: Any, reason: str, tmp_path: Path) -> None:
    rows = [annotation(i, 1.5) for i in range(3)] + [annotation(3, None, raw_completion=raw)]
    score = score_of(write_json(tmp_path / "ann.json", rows), write_set(tmp_path, 4))
    assert (score["n_valid"], score["invalid"]) == (3, {reason: 1})
    assert f"ours: 1 rows have no verdict (1 {reason})" in score["warnings"]


def test_which_of_repeated_rows_counts(tmp_path: Path) -> None:
    """The first valid one; failed rows before it were run again."""
    rows = [annotation(0, None), annotation(0, 7), annotation(0, 1.2), annotation(0, 1.9), annotation(1, 1.4)]
    rows += [annotation(2, "x"), annotation(2, None), annotation(1, None), annotation(9, 1.5)]
    score = score_of(write_json(tmp_path / "ann.json", rows), write_set(tmp_path, 4))
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(30)
    assert score["invalid"] == {NOT_A_NUMBER: 1, "no row": 1}
    for sentence in (
        "2 failed rows replaced by a re-run",
        "3 rows repeat an instruction (the first valid one counts)",
        "1 rows match no instruction of the evaluation set",
        "2 of 4 instructions have a verdict",
    ):
        assert f"ours: {sentence}" in score["warnings"]


def test_a_stored_value_goes_before_the_log_probabilities_and_differences_are_counted(tmp_path: Path) -> None:
    rows = [annotation(i, 1.8, raw_completion=completion_for(i, 1.8 if i < 5 else 1.3)) for i in range(8)]
    score = score_of(write_json(tmp_path / "ann.json", rows), write_set(tmp_path, 8))
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(80)
    assert score["unlike_logprobs"] == 3
    assert any("3 rows store another preference than their log-probabilities give" in w for w in score["warnings"])


@pytest.mark.parametrize(
    ("name", "value", "valid", "total"), [("ann", 90, 4, 8), ("range", 90, 6, 8), ("binary01", 25, 8, 8)]
)
def test_cases_of_null_preferences(name: str, value: float, valid: int, total: int) -> None:
    folder = "04-null-preferences"
    score = score_of(cases(folder, f"{name}.json"), cases(folder, "alpaca_eval.json"))
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(value)
    assert (score["n_valid"], score["n_total"]) == (valid, total)


@pytest.mark.parametrize("name", ["ann", "ann_column", "ann_stored"])
def test_cases_of_null_preferences_with_log_probabilities(name: str) -> None:
    folder = "05-null-with-logprobs"
    score = score_of(cases(folder, f"{name}.json"), cases(folder, "alpaca_eval.json"))
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(99, abs=0.01)
    assert score["n_valid"] == score["n_total"] == 20


# A comparison


def judged(*replies: Reply | None, source: Any = "logprobs") -> Any:
    """The result of stored rows that a judge's replies became; None is a draw of equal answers."""
    benchmark = AlpacaEval2(AlpacaEval2Options(verdict=source))
    rows = []
    for i, reply in enumerate(replies):
        verdict: dict[str, Any] = {"preference": 1.5}
        if reply is not None:
            preference, reason = read_preference(reply, False, source)
            verdict = {"preference": preference, "switched": False, "reason": reason}
        answer = {"text": "x" * i, "tokens": i, "truncated": False}
        rows.append({"index": i, "answer": answer, "baseline_length": 3, "verdict": verdict})
    return benchmark_result(benchmark, json.loads(json.dumps(rows)), {"label": "own"}, None)


def test_reasons_of_a_comparison() -> None:
    top = {"m": -0.1, "M": -3.0}
    replies = [Reply("m", top), Reply("m"), Reply("x", {"x": -0.1}), Reply(None, error="refused: x"), None]
    result = judged(*replies, Reply("", finish="length"))
    assert result.invalid["win_rate"] == {NO_LOGPROBS: 1, NEITHER: 1, REFUSED_REPLY: 1, CUT: 1}
    assert (result.metric("win_rate").n_valid, result.metric("win_rate").n_total) == (2, 6)
    result = judged(Reply("M"), Reply("<think>"), Reply("m or M"), Reply("m"), source="text")
    assert result.invalid["win_rate"] == {UNFINISHED_THINKING: 1, NEITHER: 1}


@pytest.mark.parametrize("first", [Reply("M"), Reply("", error="empty answer"), Reply("<", {"<think>": -0.1})])
def test_a_judge_without_log_probabilities_is_shown_the_way_out(first: Reply) -> None:
    result = judged(first, Reply("M"), None, Reply(None, error="refused: x"))
    reasons = result.invalid["win_rate"]
    assert {r for r in reasons if r.endswith(TEXT_HINT)} == set(reasons) - {REFUSED_REPLY}
    assert "alpaca_eval_2: {verdict: text}" in TEXT_HINT
    assert not any(TEXT_HINT in r for r in judged(first, source="text").invalid.get("win_rate", {}))
    assert not any(TEXT_HINT in r for r in judged(first, Reply("M", {"M": -0.1})).invalid["win_rate"])


@pytest.mark.parametrize(
    ("options", "tokens", "top"),
    [({}, 1, 5), ({"verdict": "text"}, 2048, 0), ({"verdict": "text", "judge_max_tokens": 64}, 64, 0)],
)
def test_what_a_judge_is_asked(
    options: dict[str, Any], tokens: int, top: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call an answer that differs from the baseline's; a judge that thinks first has room for it."""
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    folder = tmp_path / "alpaca_eval"
    write_json(folder / "alpaca_eval_gpt4_baseline.json", set_rows(4))
    (folder / "alpaca_eval_clf.txt").write_text("<|im_start|>user\n{output_1}|{output_2}|{instruction}\n<|im_end|>\n")
    (folder / "instruction_difficulty.csv").write_text("instruction_difficulty\n" + "0\n" * 4)
    (folder / "df_gamed.csv").write_text("index,std_delta_len,preference\n0,1.0,0.5\n")
    benchmark = AlpacaEval2(AlpacaEval2Options(**options))
    calls: list[Call] = []

    def ask(asked: list[Call]) -> list[Reply]:
        """A judge that always prefers the model's answer."""
        calls.extend(asked)
        shown_first = [call.messages[0][1].startswith("mine") for call in asked]
        texts = ["m" if first else "M" for first in shown_first]
        return [Reply(f"<think>Hm.</think>{text}", {text: 0.0}) for text in texts]

    answers = ["mine", set_rows(4)[1]["output"], "mine too", "mine"]
    rows = [{"index": i, "answer": {"text": text, "truncated": False}} for i, text in enumerate(answers)]
    judged_rows = benchmark.judge(rows, cast(Any, SimpleNamespace(ask=ask)))
    assert {(call.max_tokens, call.top_logprobs, call.temperature) for call in calls} == {(tokens, top, 1.0)}
    assert [row["verdict"]["preference"] for row in judged_rows] == [2, 1.5, 2, 2]
    protocol = benchmark.protocol()
    assert (protocol["version"], protocol["label"]) == (2, "4 instructions of another set")
    assert protocol["judge_max_tokens"] == tokens
    result = benchmark_result(benchmark, judged_rows, protocol, None)
    assert result.items["items"]["preference"] == [1, 0.5, 1, 1]
    assert result.label == "4 instructions of another set"


@pytest.mark.parametrize("missing", [[], [0], [3, 4, 11], list(range(2, 20))])
def test_a_missing_preference_is_left_out_of_the_length_controlled_rate(missing: list[int]) -> None:
    """The mini set, where the local judge's logits may be NaN: as if the prompt were not there."""
    preferences = [round(0.1 + 0.04 * i, 2) for i in range(20)]
    verdicts = [
        {"first": math.nan if i in missing else p, "shown_first": p, "mass": 1} for i, p in enumerate(preferences)
    ]
    rows = [
        {
            "id": str(i),
            "verdict": v,
            "answer": {"text": "x" * (i * 7 % 11), "tokens": i},
            "baseline": {"text": "xxxx", "tokens": 4},
        }
        for i, v in enumerate(verdicts)
    ]
    result = benchmark_result(AlpacaEval(), rows, {"label": "mini"}, None)
    there = benchmark_result(AlpacaEval(), [r for i, r in enumerate(rows) if i not in missing], {"label": "mini"}, None)
    assert result.invalid.get("lc", {}) == ({NOT_FINITE: len(missing)} if missing else {})
    assert result.metric("lc").n_valid == 20 - len(missing)
    assert result.metric("lc").value == pytest.approx(there.metric("lc").value, abs=1e-4)
    assert 0 <= result.metric("lc").value <= 100  # type: ignore[operator]
