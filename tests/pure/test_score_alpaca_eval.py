"""``sail-bench score alpaca_eval`` on files in the official layout, made from golden data, and on a small set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import golden
from kit.score_files import golden_rows, metric_value, score_command, write_file
from scipy import optimize, stats


def annotations(model: str) -> list[dict[str, Any]]:
    """An annotations.json as the official tool writes it, from the slimmed rows and the model's texts."""
    items = golden_rows("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl")
    outputs = {r["index"]: r["output"] for r in golden_rows("alpaca_eval", "model_outputs", f"{model}.jsonl")}
    rows = []
    for row in golden_rows("alpaca_eval", "annotations", f"{model}.jsonl"):
        item = items[row["index"]]
        rows.append(
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
    return rows


def data_dir() -> str:
    return str(golden("alpaca_eval", "expected.json").parent.parent)


@pytest.mark.parametrize("model", ["alpaca-7b", "FuseChat-Llama-3.2-1B-Instruct"])
def test_alpaca_eval_files(model: str, tmp_path: Path) -> None:
    expected = json.loads(golden("alpaca_eval", "expected.json").read_text())[model]
    annotated = annotations(model)
    # verdicts are taken away where the raw completion is there (one of the two models has them)
    slim = golden_rows("alpaca_eval", "annotations", f"{model}.jsonl")
    for row, kept in zip(annotated, slim, strict=True):
        if kept.get("top_logprobs"):
            top = [{"token": k, "logprob": v} for k, v in kept["top_logprobs"].items()]
            row |= {"preference": None, "raw_completion": {"logprobs": {"content": [{"top_logprobs": top}]}}}
    # reversed: the order is that of the evaluation set, not of the file
    path = write_file(tmp_path, "annotations.json", annotated[::-1])
    report, _ = score_command("alpaca_eval", "--annotations", str(path), "--data-dir", data_dir())
    score = report["scores"][0]
    assert report["judge"] == "weighted_alpaca_eval_gpt4_turbo"
    assert (score["n_valid"], score["n_total"]) == (805, 805)
    assert score["metrics"]["win_rate"]["value"] == pytest.approx(expected["win_rate"], abs=1e-6)
    assert score["standard_error"] == pytest.approx(expected["standard_error"], abs=1e-6)
    assert score["avg_length"] == expected["avg_length"]
    lc = score["metrics"]["length_controlled"]
    assert lc["value"] == pytest.approx(expected["length_controlled_winrate"], abs=0.11)
    assert lc["low"] < lc["value"] < lc["high"]
    official, _ = score_command(
        "alpaca_eval", "--annotations", str(path), "--data-dir", data_dir(), "--fit", "official"
    )
    assert official["scores"][0]["metrics"]["length_controlled"]["value"] == pytest.approx(
        expected["length_controlled_winrate"], abs=0.1
    )


def test_alpaca_eval_counts_what_it_drops(tmp_path: Path) -> None:
    annotated = annotations("alpaca-7b")
    annotated[3]["preference"] = None
    annotated[5]["instruction"] = "not in the set"
    path = write_file(tmp_path, "annotations.json", [*annotated, annotated[0]])
    alone = write_file(tmp_path, "eval_set.jsonl", golden_rows("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl"))
    report, notes = score_command("alpaca_eval", *("--annotations", str(path)), *("--eval-set", str(alone)))
    assert (report["scores"][0]["n_valid"], report["scores"][0]["n_total"]) == (803, 805)
    for what in ("1 rows have no verdict", "1 rows match no instruction", "1 rows repeat an instruction"):
        assert what in notes
    assert "length_controlled" not in report["scores"][0]["metrics"]  # no difficulty was named
    assert "no length-controlled win rate" in notes


# AlpacaEval's command of the issue, on a small set of our own

COUNT = 40


@pytest.fixture
def toy(tmp_path: Path) -> dict[str, Any]:
    """An evaluation set of the baseline ``base``, with difficulty and anchors beside it, outputs of the model ``ours``,
    and annotations without texts: what the files hold, and their paths."""
    rng = np.random.default_rng(3)
    texts = [f"Say {i}." for i in range(COUNT)]
    gamma = rng.normal(size=COUNT).round(3)
    length, y = rng.normal(size=(2, COUNT)).round(3), rng.uniform(size=(2, COUNT)).round(3)
    preferences = rng.uniform(1, 2, COUNT).round(3).tolist()
    names = {"generator_1": "base", "generator_2": "ours", "annotator": "j"}
    content: dict[str, Any] = {"gamma": gamma, "anchors": (length, y)}
    for name, generator, longest in (("set", "base", 400), ("outputs", "ours", 500)):
        sizes = rng.integers(20, longest, COUNT)
        answers = zip(texts, sizes, strict=True)
        content[name] = [{"instruction": t, "output": "x" * int(n), "generator": generator} for t, n in answers]
    content["judged"] = [{"instruction": t, "preference": p} | names for t, p in zip(texts, preferences, strict=True)]
    for name in ("set", "outputs", "judged"):
        content[f"{name}_path"] = write_file(tmp_path, f"{name}.json", content[name])
    folder = content["set_path"].parent
    (folder / "instruction_difficulty.csv").write_text("instruction_difficulty\n" + "".join(f"{g}\n" for g in gamma))
    lines = [f"{i},{length[k, i]},{y[k, i]}\n" for k in (0, 1) for i in range(COUNT)]
    (folder / "df_gamed.csv").write_text("index,std_delta_len,preference\n" + "".join(lines))
    return content


def by_hand(toy: dict[str, Any], rows: list[int], hard: np.ndarray) -> float:
    """Length-controlled win rate by a general optimiser; ``hard``: difficulty of these ``rows``."""
    delta = np.array([len(toy["set"][i]["output"]) - len(toy["outputs"][i]["output"]) for i in rows], dtype=float)
    y = np.array([toy["judged"][i]["preference"] for i in rows]) - 1
    length, target = (a.ravel() for a in toy["anchors"])
    own = np.stack([np.tanh(delta / delta.std(ddof=1)), hard, np.ones(len(rows))], 1)
    far = np.stack([np.tanh(length), np.tile(toy["gamma"], 2), np.zeros(2 * COUNT)], 1)

    def loss(w: np.ndarray) -> float:
        parts = ((own, y, 1.0), (far, target, 0.1))
        return float(sum(c * (np.logaddexp(0, x @ w) - t * (x @ w)).sum() for x, t, c in parts))

    w = optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    return float(100 * np.mean(1 / (1 + np.exp(-(hard * w[1] + w[2])))))


def issue(toy: dict[str, Any], judged: Path | None = None, *more: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The command as the issue has it: no --data-dir."""
    named = ("--annotations", str(judged or toy["judged_path"]), "--eval-set", str(toy["set_path"]))
    return score_command("alpaca_eval", *named, *more, code=code)


@pytest.mark.parametrize("numbers", [False, True])
def test_texts_and_row_numbers(numbers: bool, toy: dict[str, Any], tmp_path: Path) -> None:
    """Lengths from outputs and evaluation set; after a missing row the right difficulty, or the published bug."""
    kept = [i for i in range(COUNT) if i != 4]
    judged = write_file(tmp_path, "less.json", [toy["judged"][i] for i in kept])
    flags = ("--model-outputs", str(toy["outputs_path"]), *(["--row-numbers"] if numbers else []))
    report, _ = issue(toy, judged, *flags)
    hard = toy["gamma"][: len(kept)] if numbers else toy["gamma"][kept]
    assert metric_value(report, "length_controlled") == pytest.approx(by_hand(toy, kept, hard), abs=1e-4)
    assert metric_value(report, "win_rate") == pytest.approx(
        100 * np.mean([toy["judged"][i]["preference"] - 1 for i in kept])
    )
    assert report["scores"][0]["avg_length"] == int(np.mean([len(toy["outputs"][i]["output"]) for i in kept]))
    assert (report["protocol"]["baseline"], report["protocol"]["row_numbers"]) == ("base", numbers)


def test_published_row_numbers(tmp_path: Path) -> None:
    """The published score of a model with a missing row, and the aligned one (golden README: 17.728 and 14.9)."""
    items = golden_rows("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl")
    judged = [
        {"instruction": items[r["index"]]["instruction"], "preference": r["preference"]}
        | {"output_1": "x" * r["len_1"], "output_2": "x" * r["len_2"]}
        for r in golden_rows("alpaca_eval", "annotations", "gpt35_turbo_instruct.jsonl")
    ]
    path = write_file(tmp_path, "gpt35_turbo_instruct.json", judged)
    for flags, published in ((["--row-numbers"], 17.728), ([], 14.93)):
        report, notes = score_command("alpaca_eval", "--annotations", str(path), "--data-dir", data_dir(), *flags)
        assert metric_value(report, "length_controlled") == pytest.approx(published, abs=0.11)
        assert "804 of 805 instructions have a verdict" in notes


def test_intervals_are_of_the_prompts_with_a_verdict(toy: dict[str, Any], tmp_path: Path) -> None:
    """The raw win rate of 10 of 40: Student's interval with 9 degrees of freedom, but for the bootstrap's own skew."""
    judged = [row | {"preference": row["preference"] if i < 10 else None} for i, row in enumerate(toy["judged"])]
    report, _ = issue(toy, write_file(tmp_path, "few.json", judged), "--model-outputs", str(toy["outputs_path"]))
    y = 100 * np.array([row["preference"] - 1 for row in toy["judged"][:10]])
    low, high = stats.t.interval(0.95, 9, y.mean(), y.std(ddof=1) / 10**0.5)
    win_rate = report["scores"][0]["metrics"]["win_rate"]
    assert win_rate["high"] - win_rate["low"] == pytest.approx(high - low, rel=0.1)


@pytest.mark.parametrize("valid", [0, 1, 2])
def test_few_verdicts_are_no_score(valid: int, toy: dict[str, Any], tmp_path: Path) -> None:
    judged = [row | {"preference": row["preference"] if i < valid else None} for i, row in enumerate(toy["judged"])]
    report, notes = issue(toy, write_file(tmp_path, "few.json", judged), "--model-outputs", str(toy["outputs_path"]))
    assert report["scores"][0]["n_valid"] == valid
    for metric in ("length_controlled", "win_rate"):
        assert (metric_value(report, metric) is None) == (valid < 2)
        assert (report["scores"][0]["metrics"][metric]["low"] is None) == (valid < 2)
    assert ("n/a" in notes) == (valid < 2)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({"output_1": "bb"}, "40 rows have no output_2: name the model's outputs with --model-outputs"),
        ({"output_1": "", "output_2": ""}, "output_2 is blank in all rows"),
        ({"output_1": "bb", "output_2": ""}, "output_2 is blank in all rows"),
        (
            {"output_2": "oo", "generator_1": "another"},
            "40 rows have no output_1: take an --eval-set with the answers of another",
        ),
    ],
)
def test_lengths_that_are_not_there_are_not_taken_for_0(
    texts: dict[str, str], sentence: str, toy: dict[str, Any], tmp_path: Path
) -> None:
    report, notes = issue(toy, write_file(tmp_path, "judged.json", [row | texts for row in toy["judged"]]))
    assert metric_value(report, "length_controlled") is None
    assert metric_value(report, "win_rate") is not None
    assert f"ours: no length-controlled win rate, as {sentence}" in notes


def test_the_baseline_is_known_by_its_name(toy: dict[str, Any], tmp_path: Path) -> None:
    """Answers as long as the baseline's are not the baseline; its own rows need no texts."""
    alike = [
        row | {"output_1": i["output"], "output_2": i["output"]}
        for row, i in zip(toy["judged"], toy["set"], strict=True)
    ]
    same = [row | {"generator_2": "base", "preference": 1.5} for row in toy["judged"]]
    report, _ = issue(toy, write_file(tmp_path, "alike.json", alike + same))
    controlled = {row["model"]: row["metrics"]["length_controlled"] for row in report["scores"]}
    assert [controlled["base"][k] for k in ("value", "low", "high")] == [50, 50, 50]
    assert controlled["ours"]["value"] != 50
    assert controlled["ours"]["low"] < controlled["ours"]["value"] < controlled["ours"]["high"]


def test_outputs_of_another_model_and_two_baselines_are_refused(toy: dict[str, Any], tmp_path: Path) -> None:
    other = write_file(tmp_path, "other.json", [row | {"generator_2": "theirs"} for row in toy["judged"]])
    _, notes = issue(toy, other, "--model-outputs", str(toy["outputs_path"]), code=2)
    assert "outputs.json holds answers of ours" in notes.replace("\n", " ")
    other = write_file(
        tmp_path, "other.json", [row | {"generator_2": "theirs", "generator_1": "another"} for row in toy["judged"]]
    )
    _, notes = issue(toy, None, "--annotations", str(other), code=2)
    assert "mix baselines (another, base)" in notes


def test_the_official_fit_says_whose_interval_it_has(toy: dict[str, Any]) -> None:
    report, notes = issue(toy, None, "--model-outputs", str(toy["outputs_path"]), "--fit", "official")
    assert report["protocol"]["interval"] == "exact fit in each resample"
    assert "its interval is of the exact fit" in notes


def test_two_judges_are_not_mixed(tmp_path: Path) -> None:
    annotated = annotations("alpaca-7b")
    annotated[0]["annotator"] = "another"
    path = write_file(tmp_path, "annotations.json", annotated)
    _, notes = score_command("alpaca_eval", "--annotations", str(path), "--data-dir", data_dir(), code=2)
    assert "mixes judges" in notes


def test_empty_anchors_are_named(toy: dict[str, Any]) -> None:
    (toy["set_path"].parent / "df_gamed.csv").write_text("index,std_delta_len,preference\n")
    _, notes = issue(toy, code=2)
    assert "df_gamed.csv holds no rows" in notes.replace("\n", " ")
