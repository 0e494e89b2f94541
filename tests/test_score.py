"""``sail-bench score`` on files in the official tools' layouts, made from golden data; and broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import golden
from scipy import stats

from harness.cli import main
from harness.stats.bootstrap import Interval, holm
from harness.stats.multiple import against

Write = Callable[[str, list[dict[str, Any]]], Path]


def rows(*path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden(*path).read_text(encoding="utf-8").split("\n") if line]


def run(*arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The command's JSON and what it printed beside."""
    done = CliRunner().invoke(main, ["score", *arguments])
    assert done.exit_code == code, done.output
    return (json.loads(done.stdout) if code == 0 else {}), done.stderr


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def inner(name: str, found: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found) if name.endswith(".json") else "".join(json.dumps(r) + "\n" for r in found)
        path.write_text(text, encoding="utf-8")
        return path

    return inner


def annotations(model: str) -> list[dict[str, Any]]:
    """An annotations.json as the official tool writes it, from the slimmed rows and the model's texts."""
    items = rows("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl")
    outputs = {r["index"]: r["output"] for r in rows("alpaca_eval", "model_outputs", f"{model}.jsonl")}
    found = []
    for row in rows("alpaca_eval", "annotations", f"{model}.jsonl"):
        item = items[row["index"]]
        found.append(
            {
                "instruction": item["instruction"],
                "output_1": item["baseline_output"],
                "output_2": outputs[row["index"]],
                "generator_1": "gpt4_1106_preview",
                "generator_2": model,
                "annotator": "weighted_alpaca_eval_gpt4_turbo",
                "preference": row["preference"],
                "is_switched_outputs": row.get("is_switched"),
            }
        )
    return found


def data_dir() -> str:
    return str(golden("alpaca_eval", "expected.json").parent.parent)


@pytest.mark.parametrize("model", ["alpaca-7b", "FuseChat-Llama-3.2-1B-Instruct"])
def test_alpaca_eval_files(model: str, write: Write) -> None:
    expected = json.loads(golden("alpaca_eval", "expected.json").read_text())[model]
    found = annotations(model)
    # verdicts are taken away where the raw completion is there (one of the two models has them)
    slim = rows("alpaca_eval", "annotations", f"{model}.jsonl")
    for row, kept in zip(found, slim, strict=True):
        if kept.get("top_logprobs"):
            top = [{"token": k, "logprob": v} for k, v in kept["top_logprobs"].items()]
            row |= {"preference": None, "raw_completion": {"logprobs": {"content": [{"top_logprobs": top}]}}}
    path = write("annotations.json", list(reversed(found)))  # order is the evaluation set's, not the file's
    report, _ = run("alpaca_eval", "--annotations", str(path), "--data-dir", data_dir())
    score = report["scores"][0]
    assert report["judge"] == "weighted_alpaca_eval_gpt4_turbo"
    assert (score["n_valid"], score["n_total"]) == (805, 805)
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(expected["win_rate"], abs=1e-6)
    assert score["standard_error"] == pytest.approx(expected["standard_error"], abs=1e-6)
    assert score["avg_length"] == expected["avg_length"]
    lc = score["metrics"]["length_controlled"]
    assert lc["value"] == pytest.approx(expected["length_controlled_winrate"], abs=0.11)
    assert lc["low"] < lc["value"] < lc["high"]
    official, _ = run("alpaca_eval", "--annotations", str(path), "--data-dir", data_dir(), "--fit", "official")
    assert official["scores"][0]["metrics"]["length_controlled"]["value"] == pytest.approx(
        expected["length_controlled_winrate"], abs=0.1
    )


def test_alpaca_eval_counts_what_it_drops(write: Write) -> None:
    found = annotations("alpaca-7b")
    found[3]["preference"] = None
    found[5]["instruction"] = "not in the set"
    path = write("annotations.json", [*found, found[0]])
    report, told = run(
        "alpaca_eval",
        *("--annotations", str(path)),
        *("--eval-set", str(golden("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl"))),
    )
    assert (report["scores"][0]["n_valid"], report["scores"][0]["n_total"]) == (803, 805)
    for what in ("1 rows have no verdict", "1 rows match no instruction", "1 rows repeat an instruction"):
        assert what in told
    assert "length_controlled" not in report["scores"][0]["metrics"]  # no difficulty was named
    assert "no length-controlled win rate" in told


def test_two_judges_are_not_mixed(write: Write) -> None:
    found = annotations("alpaca-7b")
    found[0]["annotator"] = "another"
    path = write("annotations.json", found)
    _, told = run("alpaca_eval", "--annotations", str(path), "--data-dir", data_dir(), code=2)
    assert "mixes judges" in told


def arena(write: Write) -> tuple[Path, Path]:
    """Judgment and answer files in the official layout whose games give the golden battles."""
    battles = rows("arena_hard", "battles_official_v0.1.jsonl")
    # one valid game of the right weight and score for each half; the other carries no verdict
    verdicts = {(1,): "B>A", (0,): "A>B", (0.5,): "A=B", (1, 1, 1): "B>>A", (0, 0, 0): "A>>B"}
    flipped = {"B>A": "A>B", "A>B": "B>A", "A=B": "A=B", "B>>A": "A>>B", "A>>B": "B>>A"}
    for model in {b["model"] for b in battles}:
        found = []
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
            found.append(
                {"question_id": battle["question_id"], "model": model, "judge": "gpt-4-1106-preview", "games": games}
            )
        write(f"judgments/{model}.jsonl", found)
    for model in ("gpt-4-0314", "gpt-4-0613", "gpt-3.5-turbo-0125"):
        told = [
            {
                "question_id": r["question_id"],
                "model_id": model,
                "choices": [{"index": 0, "turns": [{"content": r["answer"], "token_len": r["token_len"]}]}],
            }
            for r in rows("arena_hard", "model_answer_v0.1", f"{model}.jsonl")
        ]
        last = write(f"answers/{model}.jsonl", told)
    return last.parent.parent / "judgments", last.parent


def test_arena_hard_files(write: Write, tmp_path: Path) -> None:
    judged, answered = arena(write)
    style = tmp_path / "pool.json"
    report, _ = run(
        "arena_hard",
        *("--judgments", str(judged), "--answers", str(answered)),
        *("--save-pool", str(style), "--reference", "gpt-4-0613"),
    )
    expected = json.loads(golden("arena_hard", "expected.json").read_text())["battles_official_v0.1"]
    for row in report["scores"]:
        values = {k: v["value"] for k, v in row["metrics"].items()}
        assert values["win_rate"] == pytest.approx(expected["published"][row["model"]]["score"], abs=0.01)
        known = expected["upstream_v01_style_control_pool_of_2"]["scores"][row["model"]]
        assert values["style_controlled"] == pytest.approx(known, abs=0.02)
    assert {d["verdict"] for d in report["differences"]} == {"worse"}
    assert report["protocol"]["pool"]["models"] == ["gpt-3.5-turbo-0125", "gpt-4-0613"]
    one = tmp_path / "one.jsonl"
    one.write_text((judged / "gpt-4-0613.jsonl").read_text())
    again, _ = run("arena_hard", "--judgments", str(one), "--answers", str(answered), "--pool", str(style))
    assert again["protocol"]["pool"]["hash"] == report["protocol"]["pool"]["hash"]
    assert again["scores"][0]["metrics"]["style_controlled"]["value"] == pytest.approx(37.11, abs=0.05)


def test_arena_hard_without_answers(write: Write) -> None:
    judged, _ = arena(write)
    report, told = run("arena_hard", "--judgments", str(judged))
    assert list(report["scores"][0]["metrics"]) == ["win_rate"]
    assert "no style-controlled score" in told


def test_arena_hard_v2_files() -> None:
    path = str(golden("arena_hard", "judgments_raw_v2.0_gemini-2.5-flash.jsonl"))
    report, _ = run("arena_hard", "--judgments", path, "--protocol", "v2.0")
    score = report["scores"][0]
    assert score["n_total"] == 106
    assert report["judge"] == "gemini-2.5-flash"
    games = [g["score"] for r in rows("arena_hard", "judgments_raw_v2.0_gemini-2.5-flash.jsonl") for g in r["games"]]
    assert score["n_valid"] == sum(g is not None for g in games)


def test_mt_bench_files() -> None:
    path, questions = golden("mt_bench", "judgments_gpt-4_single_jxiw.jsonl"), golden("mt_bench", "question.jsonl")
    report, _ = run("mt_bench", "--judgments", str(path), "--questions", str(questions))
    expected = json.loads(golden("mt_bench", "expected.json").read_text())
    for row in report["scores"]:
        known, values = expected[row["model"]], {k: v["value"] for k, v in row["metrics"].items()}
        assert (values["rating"], values["turn_1"], values["turn_2"]) == pytest.approx(
            (known["average"], known["turn1"], known["turn2"])
        )
        assert {k: values[k] for k in known["by_category"]} == pytest.approx(known["by_category"])
        assert not row["messy"]


def test_messy_ratings_are_told() -> None:
    report, told = run("mt_bench", "--judgments", str(golden("mt_bench", "judgments_messy_orpo.jsonl")))
    row = next(r for r in report["scores"] if r["model"] == "mistral-orpo")
    assert row["messy"]
    assert row["duplicates"] == 160
    assert row["show_result"] == pytest.approx(5.858934, abs=1e-6)
    assert row["metrics"]["rating"]["value"] == pytest.approx(5.387, abs=0.001)
    assert "160 rows repeat a question and turn" in told


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
    _, told = run("mt_bench", "--judgments", str(path), code=2)
    assert sentence in told
    assert str(path) in told
    _, told = run("mt_bench", "--judgments", str(tmp_path / "absent"), code=2)
    assert "There is no file" in told


# Holm and p-values


def test_holm_equals_its_definition() -> None:
    """Brute force: the adjusted p of a hypothesis is the least level at which Holm's procedure rejects it."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = list(rng.uniform(0, 0.2, 5))
        adjusted = holm(p)
        for level in np.linspace(0.001, 1, 200):
            order, rejected = np.argsort(p), set()
            for rank, i in enumerate(order):
                if p[i] > level / (len(p) - rank):
                    break
                rejected.add(int(i))
            assert {i for i, a in enumerate(adjusted) if a <= level} == rejected


def test_p_values_equal_scipy() -> None:
    assert Interval(1.3, 0, 0, 0.7).p == pytest.approx(2 * stats.norm.sf(1.3 / 0.7))
    assert Interval(-1.3, 0, 0, 0.7, 3.4).p == pytest.approx(2 * stats.t.sf(1.3 / 0.7, 3.4))
    assert (Interval(0, 0, 0, 0).p, Interval(1, 1, 1, 0).p) == (1, 0)
    assert np.isnan(Interval(1, 0, 0, float("nan")).p)


def test_holm_keeps_its_error_rate() -> None:
    """Four models that do not differ from the reference: a false verdict in about 5% of data sets, not in 19%."""
    rng, false = np.random.default_rng(1), 0
    for _ in range(400):
        values = rng.normal(size=(5, 200))
        weights = rng.multinomial(200, np.full(200, 1 / 200), size=300)
        found = against(list("abcde"), values.mean(1), values @ weights.T / 200, "a", 200)
        false += any(d.verdict != "no difference shown" for d in found)
    assert false / 400 < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
