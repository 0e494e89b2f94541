"""``sail-bench score arena_hard`` on files in the official layout, made from golden battles, and on a few games."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import golden
from kit.score_files import golden_rows, metric_value, score_command, write_file


def arena(tmp_path: Path) -> tuple[Path, Path]:
    """Judgment and answer files in the official layout whose games give the golden battles."""
    battles = golden_rows("arena_hard", "battles_official_v0.1.jsonl")
    # one valid game of the right weight and score for each half; the other carries no verdict
    verdicts = {(1,): "B>A", (0,): "A>B", (0.5,): "A=B", (1, 1, 1): "B>>A", (0, 0, 0): "A>>B"}
    flipped = {"B>A": "A>B", "A>B": "B>A", "A=B": "A=B", "B>>A": "A>>B", "A>>B": "B>>A"}
    for model in {b["model"] for b in battles}:
        judged = []
        for battle in (b for b in battles if b["model"] == model):
            scores = battle["scores"]
            cut = next(
                i for i in (1, 3, 0) if tuple(scores[:i]) in verdicts | {(): ""} and tuple(scores[i:]) in verdicts
            )
            first, second = verdicts[tuple(scores[:cut])] if cut else None, flipped[verdicts[tuple(scores[cut:])]]
            games = [
                {"score": label, "judgment": f"Text.\n\nMy final verdict is: [[{label}]]" if label else "Nothing."}
                for label in (first, second)
            ]
            judged.append(
                {"question_id": battle["question_id"], "model": model, "judge": "gpt-4-1106-preview", "games": games}
            )
        write_file(tmp_path, f"judgments/{model}.jsonl", judged)
    for model in ("gpt-4-0314", "gpt-4-0613", "gpt-3.5-turbo-0125"):
        answers = [
            {
                "question_id": r["question_id"],
                "model_id": model,
                "choices": [{"index": 0, "turns": [{"content": r["answer"], "token_len": r["token_len"]}]}],
            }
            for r in golden_rows("arena_hard", "model_answer_v0.1", f"{model}.jsonl")
        ]
        last = write_file(tmp_path, f"answers/{model}.jsonl", answers)
    return last.parent.parent / "judgments", last.parent


def test_arena_hard_files(tmp_path: Path) -> None:
    judged, answered = arena(tmp_path)
    style = tmp_path / "pool.json"
    report, _ = score_command(
        "arena_hard",
        *("--judgments", str(judged), "--answers", str(answered)),
        *("--save-pool", str(style), "--reference", "gpt-4-0613"),
    )
    expected = json.loads(golden("arena_hard", "expected.json").read_text())["battles_official_v0.1"]
    for row in report["scores"]:
        values = {k: v["value"] for k, v in row["metrics"].items()}
        assert values["win_rate"] == pytest.approx(expected["published"][row["model"]]["score"], abs=0.01)
        upstream = expected["upstream_v01_style_control_pool_of_2"]["scores"][row["model"]]
        assert values["style_controlled"] == pytest.approx(upstream, abs=0.02)
    assert {d["verdict"] for d in report["differences"]} == {"worse"}
    assert report["protocol"]["pool"]["models"] == ["gpt-3.5-turbo-0125", "gpt-4-0613"]
    one = tmp_path / "one.jsonl"
    one.write_text((judged / "gpt-4-0613.jsonl").read_text())
    again, _ = score_command("arena_hard", "--judgments", str(one), "--answers", str(answered), "--pool", str(style))
    assert again["protocol"]["pool"]["hash"] == report["protocol"]["pool"]["hash"]
    assert again["scores"][0]["metrics"]["style_controlled"]["value"] == pytest.approx(37.11, abs=0.05)


def test_arena_hard_without_answers(tmp_path: Path) -> None:
    judged, _ = arena(tmp_path)
    report, notes = score_command("arena_hard", "--judgments", str(judged))
    assert list(report["scores"][0]["metrics"]) == ["win_rate"]
    assert "no style-controlled score" in notes


def test_arena_hard_v2_files() -> None:
    path = str(golden("arena_hard", "judgments_raw_v2.0_gemini-2.5-flash.jsonl"))
    report, _ = score_command("arena_hard", "--judgments", path, "--protocol", "v2.0")
    score = report["scores"][0]
    assert score["n_total"] == 106
    assert report["judge"] == "gemini-2.5-flash"
    games = [
        g["score"] for r in golden_rows("arena_hard", "judgments_raw_v2.0_gemini-2.5-flash.jsonl") for g in r["games"]
    ]
    assert score["n_valid"] == sum(g is not None for g in games)


def arena_row(question: str, *labels: str, **more: str) -> dict[str, Any]:
    return {"uid": question, "model": "m", "judge": "j", "games": [{"score": label} for label in labels]} | more


HARD = {"category": "hard_prompt", "baseline": "o3-mini-2025-01-31"}


CREATIVE = {"category": "creative_writing", "baseline": "gemini-2.0-flash-001"}


V2 = [
    arena_row("h1", "B>A", "A>B", **HARD),  # 2 of 2
    arena_row("c1", "B>>A", "A>>B", **CREATIVE),  # 6 of 6
    arena_row("h2", "A>>B", "A=B", **HARD),  # 0.5 of 4
    arena_row("c2", "A=B", "A>B", **CREATIVE),  # 1.5 of 2
    arena_row("h3", "A>B", "B>A", **HARD),  # 0 of 2
]


@pytest.mark.parametrize(
    ("flags", "percent", "count", "baseline"),
    [
        ([], 100 * 2.5 / 8, 6, HARD["baseline"]),
        (["--category", "hard_prompt"], 100 * 2.5 / 8, 6, HARD["baseline"]),
        (["--category", "creative_writing"], 100 * 7.5 / 8, 4, CREATIVE["baseline"]),
    ],
)
def test_arena_hard_v2_categories(flags: list[str], percent: float, count: int, baseline: str, tmp_path: Path) -> None:
    """Each has its own baseline: one is scored, the other named; rows that name no baseline have the official one."""
    for judged in (V2, [{k: v for k, v in row.items() if k != "baseline"} for row in V2]):
        report, notes = score_command(
            "arena_hard", "--judgments", str(write_file(tmp_path, "m.jsonl", judged)), "--protocol", "v2.0", *flags
        )
        assert metric_value(report, "win_rate") == pytest.approx(percent)
        assert report["scores"][0]["n_total"] == count
        assert report["protocol"]["baseline"] == baseline
        assert report["protocol"]["category"] == (flags or ["", "hard_prompt"])[1]
        assert ("--category creative_writing gives those of creative_writing" in notes) == (not flags)


def test_arena_hard_categories_that_are_not_there(tmp_path: Path) -> None:
    plain = [{k: v for k, v in row.items() if k not in ("category", "baseline")} for row in V2]
    for judged, flags, sentence in (
        (plain, ["--category", "hard_prompt"], "it has no categories"),
        (V2[::2], ["--category", "creative_writing"], "it has hard_prompt"),
        ([*V2, *plain], [], "has rows without a category"),
        ([V2[1] | {"category": "b"}, V2[1] | {"category": "a"}], [], "mixes categories (a, b)"),
    ):
        path = write_file(tmp_path, "m.jsonl", judged)
        _, notes = score_command("arena_hard", "--judgments", str(path), "--protocol", "v2.0", *flags, code=2)
        assert sentence in notes.replace("\n", " ")


def test_arena_hard_with_few_verdicts(tmp_path: Path) -> None:
    """One question with a verdict of three is no score, raw or style-controlled; the other model keeps its own."""
    judged = [r | {"model": m} for m in ("m", "n") for r in V2[::2]]
    for row in judged[4:]:
        row["games"] = [None, {"score": "None"}]
    answers = [
        {"uid": row["uid"], "model": model, "answer": "x " * (3 + i + 4 * j), "token_len": 3 + i + 4 * j}
        for i, row in enumerate(V2[::2])
        for j, model in enumerate(("m", "n", HARD["baseline"]))
    ]
    flags = ("--answers", str(write_file(tmp_path, "answers.jsonl", answers)), "--protocol", "v2.0")
    report, _ = score_command("arena_hard", "--judgments", str(write_file(tmp_path, "judged.jsonl", judged)), *flags)
    assert [row["model"] for row in report["scores"]] == ["m", "n"]
    for metric in ("win_rate", "style_controlled"):
        assert metric_value(report, metric, 0) is not None
        assert metric_value(report, metric, 1) is None
        assert report["scores"][1]["metrics"][metric]["low"] is None
    for row in judged:
        row["games"] = [None, None]
    report, notes = score_command(
        "arena_hard", "--judgments", str(write_file(tmp_path, "judged.jsonl", judged)), *flags
    )
    assert metric_value(report, "win_rate") is None
    assert "no style-controlled score: no game has a valid verdict" in notes
