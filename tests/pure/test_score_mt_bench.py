"""``sail-bench score mt_bench`` on FastChat's judgment files; files that are empty or broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import golden
from kit.score_files import metric_value, score_command, write_file


def test_mt_bench_files() -> None:
    path, questions = golden("mt_bench", "judgments_gpt-4_single_jxiw.jsonl"), golden("mt_bench", "question.jsonl")
    report, _ = score_command("mt_bench", "--judgments", str(path), "--questions", str(questions))
    expected = json.loads(golden("mt_bench", "expected.json").read_text())
    for row in report["scores"]:
        published, values = expected[row["model"]], {k: v["value"] for k, v in row["metrics"].items()}
        assert (values["rating"], values["turn_1"], values["turn_2"]) == pytest.approx(
            (published["average"], published["turn1"], published["turn2"])
        )
        assert {k: values[k] for k in published["by_category"]} == pytest.approx(published["by_category"])
        assert not row["messy"]


def test_messy_ratings_are_reported() -> None:
    report, notes = score_command("mt_bench", "--judgments", str(golden("mt_bench", "judgments_messy_orpo.jsonl")))
    row = next(r for r in report["scores"] if r["model"] == "mistral-orpo")
    assert row["messy"]
    assert row["duplicates"] == 160
    assert row["show_result"] == pytest.approx(5.858934, abs=1e-6)
    assert row["metrics"]["rating"]["value"] == pytest.approx(5.416, abs=0.001)  # 160 ratings: the re-run of one counts
    assert (row["replaced"], row["n_valid"]) == (1, 160)
    assert "160 rows repeat a question and turn" in notes


def graded(question: int, turn: int, score: float, **more: Any) -> dict[str, Any]:
    return {"question_id": question, "model": "m", "turn": turn, "score": score} | more


QUESTIONS = [{"question_id": q, "category": c} for q, c in ((81, "writing"), (82, "math"), (83, "math"))]


def test_ratings_of_other_questions_and_outside_the_scale(tmp_path: Path) -> None:
    """Outside the questions and outside 1-10: reported and left out. FastChat averages the latter."""
    judged = [
        graded(81, 1, 4, judgment="Rating: [[4]]"),
        graded(82, 1, 0, judgment="Rating: [[0]]"),
        graded(83, 2, 50, judgment="Rating: [[50]]"),
        graded(81, 2, -1, judgment="No rating."),
        graded(99, 1, 10),
        graded(82, 3, 10),
    ]
    flags = ("--questions", str(write_file(tmp_path, "question.jsonl", QUESTIONS)))
    report, notes = score_command("mt_bench", "--judgments", str(write_file(tmp_path, "judged.jsonl", judged)), *flags)
    assert metric_value(report, "rating") is None  # one question of three has a valid rating
    assert report["scores"][0]["show_result"] == pytest.approx((4 + 0 + 50 + 10 + 10) / 5)
    assert metric_value(report, "math") is None
    assert metric_value(report, "writing") == 4  # one question is all that the category has
    assert report["scores"][0]["messy"]
    assert "2 rows are of no expected question and turn" in notes
    assert "3 ratings are not valid (2 out of range, 1 no label)" in notes
    assert "2 rows differ from the stored score" in notes
    report, notes = score_command(
        "mt_bench", "--judgments", str(write_file(tmp_path, "one.jsonl", [graded(81, 1, 4, judgment="[[0]]")]))
    )
    assert "1 rows differ from the stored score" in notes
    assert metric_value(report, "rating") is None


def test_one_question_of_several_is_no_rating(tmp_path: Path) -> None:
    flags = ("--questions", str(write_file(tmp_path, "question.jsonl", QUESTIONS)))
    single = [graded(82, 1, 7), graded(82, 2, 9)]
    pair = [
        {
            "question_id": 82,
            "model_1": "m",
            "model_2": "base",
            "turn": t,
            "g1_winner": "model_1",
            "g2_winner": "model_1",
        }
        for t in (1, 2)
    ]
    for judged, metric in ((single, "rating"), (pair, "win_rate_adjusted")):
        report, notes = score_command(
            "mt_bench", "--judgments", str(write_file(tmp_path, "judged.jsonl", judged)), *flags
        )
        for name in (metric, "turn_1", "turn_2", "math"):
            assert metric_value(report, name) is None
        assert "n/a" in notes
        report, _ = score_command(
            "mt_bench",
            "--judgments",
            str(write_file(tmp_path, "judged.jsonl", [*judged, judged[0] | {"question_id": 83}])),
            *flags,
        )
        assert metric_value(report, metric) is not None
        assert metric_value(report, "turn_2") is None


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        *(("alpaca_eval", flag) for flag in ("--annotations", "--eval-set", "--model-outputs")),
        *(("mt_bench", flag) for flag in ("--judgments", "--questions")),
        ("arena_hard", "--judgments"),
    ],
)
@pytest.mark.parametrize("name", ["empty.jsonl", "empty.json"])
def test_empty_files_are_named(command: str, flag: str, name: str, tmp_path: Path) -> None:
    empty = write_file(tmp_path, name, [])
    item, names = {"instruction": "Say 1."}, {"generator_1": "base", "generator_2": "ours", "annotator": "j"}
    good = {
        "alpaca_eval": {
            "--annotations": write_file(tmp_path, "annotations.json", [item | names | {"preference": 1.5}]),
            "--eval-set": write_file(tmp_path, "set.json", [item | {"output": "x", "generator": "base"}]),
        },
        "mt_bench": {"--judgments": write_file(tmp_path, "judged.jsonl", [graded(81, 1, 5)])},
        "arena_hard": {},
    }[command]
    arguments = [str(part) for pair in (good | {flag: empty}).items() for part in pair]
    _, notes = score_command(command, *arguments, code=2)
    assert f"{name} holds no rows" in notes.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'{"question_id": 81, "model": "m", "turn": 1', "line 1"),
        (b'{"question_id": 81, "model": "m", "turn": 1}', "'score' is missing"),
        (b'[3, {"question_id": 81}]', "item 1: an object is expected"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_broken_files_are_named(text: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_bytes(text)
    _, notes = score_command("mt_bench", "--judgments", str(path), code=2)
    assert sentence in notes
    assert str(path) in notes
    _, notes = score_command("mt_bench", "--judgments", str(tmp_path / "absent"), code=2)
    assert "There is no file" in notes
