"""MT-Bench's pairwise mode: prompts, verdicts, and FastChat's pairwise judgment files."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import golden
from kit.fastchat import pair_judgments
from kit.rows import write_rows

from benchmarks.mt_bench.judge_prompts import PAIRWISE_PROMPTS, fill_prompt, pairwise_prompt_name
from benchmarks.mt_bench.verdict_pairwise import game_points, pair_points, read_winner
from harness.cli import main
from harness.score.bootstrap import draws
from harness.score.estimators import pooled_percent


def rows(*path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden(*path).read_text(encoding="utf-8").split("\n") if line]


def expected_prompt(template: str, values: dict[str, str]) -> str:
    """The template, cut at its placeholders and put together by hand; each must be known, and each known one used."""
    parts = re.split(r"\{(\w+)\}", template)
    assert set(parts[1::2]) == set(values)
    return "".join(part if i % 2 == 0 else values[part] for i, part in enumerate(parts))


def test_official_prompts_are_filled() -> None:
    """All 80 questions in both turns and both orders, against the templates put together from explicit values."""
    prompts = {p["name"]: p["prompt_template"] for p in rows("mt_bench", "judge_prompts.jsonl")}
    references = {r["question_id"]: r["choices"][0]["turns"] for r in rows("mt_bench", "reference_answer_gpt-4.jsonl")}
    answers = {
        r["question_id"]: r["choices"][0]["turns"] for r in rows("mt_bench", "model_answer", "mamba_0_5_dpo_ep1.jsonl")
    }
    used = set()
    for question in rows("mt_bench", "question.jsonl"):
        number, (q1, q2) = question["question_id"], question["turns"]
        graded = question["category"] in ("math", "reasoning", "coding")
        (a1, a2), (b1, b2) = answers[number], answers[81 + (number - 80) % 80]
        reference = references[number] if graded else []
        one = {"question": q1, "answer_a": a1, "answer_b": b1}
        two = {
            "question_1": q1, "question_2": q2, "answer_a_1": a1, "answer_a_2": a2, "answer_b_1": b1, "answer_b_2": b2
        }  # fmt: skip
        if graded:
            one |= {"ref_answer_1": reference[0]}
            two |= {"ref_answer_1": reference[0], "ref_answer_2": reference[1]}
        for turn, values in ((1, one), (2, two)):
            name = ("pair-math-v1" if graded else "pair-v2") + ("" if turn == 1 else "-multi-turn")
            assert pairwise_prompt_name(question["category"], turn) == name
            shown = fill_prompt(prompts[name], [q1, q2], {"answer_a": [a1, a2], "answer_b": [b1, b2]}, reference, turn)
            assert shown == expected_prompt(prompts[name], values)
            swapped = fill_prompt(
                prompts[name], [q1, q2], {"answer_a": [b1, b2], "answer_b": [a1, a2]}, reference, turn
            )
            assert swapped != shown
            assert sorted(swapped) == sorted(shown)
            used.add(name)
    assert used == set(PAIRWISE_PROMPTS)
    assert used <= set(prompts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Better: [[A]]", "A"),
        ("[[B]]", "B"),
        ("so [[C]].", "tie"),
        ("[[B]] no, [[A]]", None),  # FastChat looks for [[A]] first, wherever it stands
        ("[[C]] or rather [[B]]", None),
        ("[A]", None),
        ("[[a]]", None),
        ("[[A>B]]", None),
        ("", None),
    ],
)
def test_verdicts(text: str, expected: str | None) -> None:
    assert read_winner(text).value == expected


def test_two_games_by_cases() -> None:
    """All sixteen pairs of verdicts: who wins said in models, as FastChat's rows do."""
    for first, second in itertools.product(("A", "B", "tie", None), repeat=2):
        winners = {"A": "us", "B": "them"}.get(first, first), {"A": "them", "B": "us"}.get(second, second)
        wins = {("us", "us"): 1.0, ("them", "them"): 0.0}
        expected = None if None in winners else wins.get(winners, 0.5)  # type: ignore[call-overload]
        assert pair_points(game_points(first, "A"), game_points(second, "B")) == expected  # type: ignore[arg-type]


def test_pooled_percent_equals_repeated_rows() -> None:
    values = [[1.0, 0.5], [None, 0.0], [1.0, None]]
    weights = draws(3, 10)
    percents = pooled_percent({"id": [0, 1, 2], "x": values}, "x", weights)
    for w, value in zip(weights, percents, strict=True):
        flat = [v for row, n in zip(values, w, strict=True) for v in row * int(n) if v is not None]
        assert value == pytest.approx(100 * np.mean(flat))


# FastChat's file


def shown(judgments: list[dict[str, Any]], baseline: str | None) -> dict[str, dict[str, float]]:
    """What ``show_result.py`` prints, counted row by row (errors left out)."""
    counts: dict[str, dict[str, float]] = {}
    for row in judgments:
        if "error" in (row["g1_winner"], row["g2_winner"]):
            continue
        if baseline not in (None, row["model_1"], row["model_2"]):
            continue
        names = {"model_1": row["model_1"], "model_2": row["model_2"]}
        winner = names.get(row["g1_winner"]) if row["g1_winner"] == row["g2_winner"] else None
        for name in names.values():
            mine = counts.setdefault(name, {"win": 0, "tie": 0, "loss": 0})
            mine["tie" if winner is None else "win" if winner == name else "loss"] += 1
    return {
        m: {k: 100 * v / sum(c.values()) for k, v in c.items()}
        | {"win_rate_adjusted": 100 * (c["win"] + c["tie"] / 2) / sum(c.values())}
        for m, c in counts.items()
        if m != baseline
    }


def run(path: Path, *arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(main, ["score", "mt_bench", "--judgments", str(path), *arguments])
    assert done.exit_code == code, done.output
    return (json.loads(done.stdout) if code == 0 else {}), done.stderr


def test_against_a_baseline(tmp_path: Path) -> None:
    judgments = pair_judgments([("one", "base"), ("two", "base")])
    report, _ = run(write_rows(tmp_path / "gpt-4_pair.jsonl", judgments), "--reference", "two")
    assert report["protocol"]["baseline"] == "base"
    counted = shown(judgments, "base")
    assert [s["model"] for s in report["scores"]] == sorted(counted)
    for score in report["scores"]:
        for name, value in counted[score["model"]].items():
            assert score["metrics"][name]["value"] == pytest.approx(value)
        assert score["show_result"] == pytest.approx(counted[score["model"]]["win_rate_adjusted"])
        wins = score["metrics"]["win_rate_adjusted"]
        assert wins["low"] < wins["value"] < wins["high"]
        mine = [r for r in judgments if r["model_1"] == score["model"]]
        errors = sum("error" in (r["g1_winner"], r["g2_winner"]) for r in mine)
        assert errors > 0
        assert (score["n_valid"], score["n_total"], score["errors"]) == (40 - errors, 40, errors)
        first = [r for r in mine if r["turn"] == 1]
        assert score["metrics"]["turn_1"]["value"] == pytest.approx(
            shown(first, "base")[score["model"]]["win_rate_adjusted"]
        )
        slots = [{"model_1": 1, "model_2": 0, "tie": 0.5}.get(r["g1_winner"]) for r in mine]
        slots += [{"model_1": 0, "model_2": 1, "tie": 0.5}.get(r["g2_winner"]) for r in mine]
        valid = [s for s in slots if s is not None]
        assert score["metrics"]["first_slot"]["value"] == pytest.approx(100 * np.mean(valid))
    assert {d["model"] for d in report["differences"]} == {"one"}


def test_all_pairs_and_a_named_baseline(tmp_path: Path) -> None:
    judgments = pair_judgments([("one", "two"), ("one", "three"), ("two", "three")], seed=1)
    path = write_rows(tmp_path / "gpt-4_pair.jsonl", judgments)
    report, _ = run(path)
    assert report["protocol"]["baseline"] == "all other models"
    counted = shown(judgments, None)
    assert {s["model"] for s in report["scores"]} == {"one", "two", "three"}
    for score in report["scores"]:
        value = counted[score["model"]]["win_rate_adjusted"]
        assert score["metrics"]["win_rate_adjusted"]["value"] == pytest.approx(value)
        assert score["n_total"] == 80
    report, _ = run(path, "--baseline", "two")
    counted = shown(judgments, "two")
    for score in report["scores"]:
        value = counted[score["model"]]["win_rate_adjusted"]
        assert score["metrics"]["win_rate_adjusted"]["value"] == pytest.approx(value)
    _, notes = run(path, "--baseline", "for", code=2)
    assert "'for'" in notes


def test_categories_with_official_questions(tmp_path: Path) -> None:
    questions = golden("mt_bench", "question.jsonl")
    judgments = pair_judgments([("one", "base")], range(81, 161))
    report, _ = run(write_rows(tmp_path / "gpt-4_pair.jsonl", judgments), "--questions", str(questions))
    category = {q["question_id"]: q["category"] for q in rows("mt_bench", "question.jsonl")}
    for name in set(category.values()):
        inside = [r for r in judgments if category[r["question_id"]] == name]
        value = shown(inside, "base")["one"]["win_rate_adjusted"]
        assert report["scores"][0]["metrics"][name]["value"] == pytest.approx(value)


def test_messy_pairs_are_reported(tmp_path: Path) -> None:
    judgments = pair_judgments([("one", "base")])
    again = [r | {"model_1": "base", "model_2": "one"} for r in judgments[:3]]  # the same pair, named the other way
    judgments[7] |= {"g1_winner": "tie", "g1_judgment": "[[A]]"}
    report, notes = run(write_rows(tmp_path / "a.jsonl", [*judgments, *again][1:]))
    assert "2 rows repeat a pair" in notes
    assert "1 rows have a judgment that says another winner than the stored one; the text counts" in notes
    assert "missing" not in notes  # the row that was left out stands there the other way round
    assert report["scores"][0]["duplicates"] == 2
    _, notes = run(write_rows(tmp_path / "b.jsonl", judgments[2:]))
    assert "2 of the expected questions and turns are missing" not in notes  # question 81 is in no row at all
    _, notes = run(write_rows(tmp_path / "b.jsonl", judgments[1:]))
    assert "1 of the expected questions and turns are missing" in notes
    other = [r | {"judge": ["gpt-5", "pair-v2"]} for r in judgments[:1]]
    _, notes = run(write_rows(tmp_path / "c.jsonl", judgments + other), code=2)
    assert "mixes judges" in notes
    single = {"question_id": 81, "model": "one", "turn": 1, "score": 3}
    _, notes = run(write_rows(tmp_path / "d.jsonl", [*judgments, single]), code=2)
    assert "mixes pairwise and single-answer rows" in notes
    _, notes = run(write_rows(tmp_path / "e.jsonl", [single]), "--baseline", "one", code=2)
    assert "no --baseline" in notes
    del judgments[4]["turn"]
    _, notes = run(write_rows(tmp_path / "f.jsonl", judgments), code=2)
    assert "line 5" in notes
    assert "'turn' is missing" in notes
