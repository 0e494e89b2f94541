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
from scipy import optimize, stats

from harness.cli import main
from harness.score.bootstrap import Interval
from harness.score.verdicts import differences_from, holm

Write = Callable[[str, list[dict[str, Any]]], Path]


def rows(*path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden(*path).read_text(encoding="utf-8").split("\n") if line]


def run(*arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The command's JSON (which has no NaN) and what it printed beside."""
    done = CliRunner().invoke(main, ["score", *arguments])
    assert done.exit_code == code, done.output
    return (json.loads(done.stdout, parse_constant=pytest.fail) if code == 0 else {}), done.stderr


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
    alone = write("eval_set.jsonl", rows("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl"))
    report, told = run("alpaca_eval", *("--annotations", str(path)), *("--eval-set", str(alone)))
    assert (report["scores"][0]["n_valid"], report["scores"][0]["n_total"]) == (803, 805)
    for what in ("1 rows have no verdict", "1 rows match no instruction", "1 rows repeat an instruction"):
        assert what in told
    assert "length_controlled" not in report["scores"][0]["metrics"]  # no difficulty was named
    assert "no length-controlled win rate" in told


# AlpacaEval's command of the issue, on a small set of our own

COUNT = 40


@pytest.fixture
def toy(write: Write) -> dict[str, Any]:
    """An evaluation set of the baseline ``base``, with difficulty and anchors beside it, outputs of the model ``ours``,
    and annotations without texts: what the files hold, and their paths."""
    rng = np.random.default_rng(3)
    texts = [f"Say {i}." for i in range(COUNT)]
    gamma = rng.normal(size=COUNT).round(3)
    length, y = rng.normal(size=(2, COUNT)).round(3), rng.uniform(size=(2, COUNT)).round(3)
    preferences = rng.uniform(1, 2, COUNT).round(3).tolist()
    names = {"generator_1": "base", "generator_2": "ours", "annotator": "j"}
    found: dict[str, Any] = {"gamma": gamma, "anchors": (length, y)}
    for name, generator, longest in (("set", "base", 400), ("outputs", "ours", 500)):
        sizes = rng.integers(20, longest, COUNT)
        answers = zip(texts, sizes, strict=True)
        found[name] = [{"instruction": t, "output": "x" * int(n), "generator": generator} for t, n in answers]
    found["judged"] = [{"instruction": t, "preference": p} | names for t, p in zip(texts, preferences, strict=True)]
    for name in ("set", "outputs", "judged"):
        found[f"{name}_path"] = write(f"{name}.json", found[name])
    folder = found["set_path"].parent
    (folder / "instruction_difficulty.csv").write_text("instruction_difficulty\n" + "".join(f"{g}\n" for g in gamma))
    lines = [f"{i},{length[k, i]},{y[k, i]}\n" for k in (0, 1) for i in range(COUNT)]
    (folder / "df_gamed.csv").write_text("index,std_delta_len,preference\n" + "".join(lines))
    return found


def by_hand(toy: dict[str, Any], rows: list[int], hard: np.ndarray) -> float:
    """Length-controlled win rate by a general optimiser (spec/evals 1.3); ``hard``: difficulty of these ``rows``."""
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
    return run("alpaca_eval", *named, *more, code=code)


def value(report: dict[str, Any], metric: str, row: int = 0) -> Any:
    return report["scores"][row]["metrics"][metric]["value"]


@pytest.mark.parametrize("numbers", [False, True])
def test_texts_and_row_numbers(numbers: bool, toy: dict[str, Any], write: Write) -> None:
    """Lengths from outputs and evaluation set; after a missing row the right difficulty, or the published bug."""
    kept = [i for i in range(COUNT) if i != 4]
    judged = write("less.json", [toy["judged"][i] for i in kept])
    flags = ("--model-outputs", str(toy["outputs_path"]), *(["--row-numbers"] if numbers else []))
    report, _ = issue(toy, judged, *flags)
    hard = toy["gamma"][: len(kept)] if numbers else toy["gamma"][kept]
    assert value(report, "length_controlled") == pytest.approx(by_hand(toy, kept, hard), abs=1e-4)
    assert value(report, "win_rate") == pytest.approx(100 * np.mean([toy["judged"][i]["preference"] - 1 for i in kept]))
    assert report["scores"][0]["avg_length"] == int(np.mean([len(toy["outputs"][i]["output"]) for i in kept]))
    assert (report["protocol"]["baseline"], report["protocol"]["row_numbers"]) == ("base", numbers)


def test_published_row_numbers(write: Write) -> None:
    """The published score of a model with a missing row, and the aligned one (golden README: 17.728 and 14.9)."""
    items = rows("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl")
    judged = [
        {"instruction": items[r["index"]]["instruction"], "preference": r["preference"]}
        | {"output_1": "x" * r["len_1"], "output_2": "x" * r["len_2"]}
        for r in rows("alpaca_eval", "annotations", "gpt35_turbo_instruct.jsonl")
    ]
    path = write("gpt35_turbo_instruct.json", judged)
    for flags, known in ((["--row-numbers"], 17.728), ([], 14.93)):
        report, told = run("alpaca_eval", "--annotations", str(path), "--data-dir", data_dir(), *flags)
        assert value(report, "length_controlled") == pytest.approx(known, abs=0.11)
        assert "804 of 805 instructions have a verdict" in told


def test_intervals_are_of_the_prompts_with_a_verdict(toy: dict[str, Any], write: Write) -> None:
    """The raw win rate of 10 of 40: Student's interval with 9 degrees of freedom, but for the bootstrap's own skew."""
    judged = [row | {"preference": row["preference"] if i < 10 else None} for i, row in enumerate(toy["judged"])]
    report, _ = issue(toy, write("few.json", judged), "--model-outputs", str(toy["outputs_path"]))
    y = 100 * np.array([row["preference"] - 1 for row in toy["judged"][:10]])
    low, high = stats.t.interval(0.95, 9, y.mean(), y.std(ddof=1) / 10**0.5)
    found = report["scores"][0]["metrics"]["win_rate"]
    assert found["high"] - found["low"] == pytest.approx(high - low, rel=0.1)


@pytest.mark.parametrize("valid", [0, 1, 2])
def test_few_verdicts_are_no_score(valid: int, toy: dict[str, Any], write: Write) -> None:
    judged = [row | {"preference": row["preference"] if i < valid else None} for i, row in enumerate(toy["judged"])]
    report, told = issue(toy, write("few.json", judged), "--model-outputs", str(toy["outputs_path"]))
    assert report["scores"][0]["n_valid"] == valid
    for metric in ("length_controlled", "win_rate"):
        assert (value(report, metric) is None) == (valid < 2)
        assert (report["scores"][0]["metrics"][metric]["low"] is None) == (valid < 2)
    assert ("n/a" in told) == (valid < 2)


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
    texts: dict[str, str], sentence: str, toy: dict[str, Any], write: Write
) -> None:
    report, told = issue(toy, write("judged.json", [row | texts for row in toy["judged"]]))
    assert value(report, "length_controlled") is None
    assert value(report, "win_rate") is not None
    assert f"ours: no length-controlled win rate, as {sentence}" in told


def test_the_baseline_is_known_by_its_name(toy: dict[str, Any], write: Write) -> None:
    """Answers as long as the baseline's are not the baseline; its own rows need no texts."""
    alike = [
        row | {"output_1": i["output"], "output_2": i["output"]}
        for row, i in zip(toy["judged"], toy["set"], strict=True)
    ]
    same = [row | {"generator_2": "base", "preference": 1.5} for row in toy["judged"]]
    report, _ = issue(toy, write("alike.json", alike + same))
    found = {row["model"]: row["metrics"]["length_controlled"] for row in report["scores"]}
    assert [found["base"][k] for k in ("value", "low", "high")] == [50, 50, 50]
    assert found["ours"]["value"] != 50
    assert found["ours"]["low"] < found["ours"]["value"] < found["ours"]["high"]


def test_outputs_of_another_model_and_two_baselines_are_refused(toy: dict[str, Any], write: Write) -> None:
    other = write("other.json", [row | {"generator_2": "theirs"} for row in toy["judged"]])
    _, told = issue(toy, other, "--model-outputs", str(toy["outputs_path"]), code=2)
    assert "outputs.json holds answers of ours" in told.replace("\n", " ")
    other = write("other.json", [row | {"generator_2": "theirs", "generator_1": "another"} for row in toy["judged"]])
    _, told = issue(toy, None, "--annotations", str(other), code=2)
    assert "mix baselines (another, base)" in told


def test_the_official_fit_says_whose_interval_it_has(toy: dict[str, Any]) -> None:
    report, told = issue(toy, None, "--model-outputs", str(toy["outputs_path"]), "--fit", "official")
    assert report["protocol"]["interval"] == "exact fit in each resample"
    assert "its interval is of the exact fit" in told


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
    ("flags", "known", "count", "baseline"),
    [
        ([], 100 * 2.5 / 8, 6, HARD["baseline"]),
        (["--category", "hard_prompt"], 100 * 2.5 / 8, 6, HARD["baseline"]),
        (["--category", "creative_writing"], 100 * 7.5 / 8, 4, CREATIVE["baseline"]),
    ],
)
def test_arena_hard_v2_categories(flags: list[str], known: float, count: int, baseline: str, write: Write) -> None:
    """Each has its own baseline: one is scored and the other told; rows that name no baseline have the official one."""
    for found in (V2, [{k: v for k, v in row.items() if k != "baseline"} for row in V2]):
        report, told = run("arena_hard", "--judgments", str(write("m.jsonl", found)), "--protocol", "v2.0", *flags)
        assert value(report, "win_rate") == pytest.approx(known)
        assert report["scores"][0]["n_total"] == count
        assert report["protocol"]["baseline"] == baseline
        assert report["protocol"]["category"] == (flags or ["", "hard_prompt"])[1]
        assert ("--category creative_writing gives those of creative_writing" in told) == (not flags)


def test_arena_hard_categories_that_are_not_there(write: Write) -> None:
    plain = [{k: v for k, v in row.items() if k not in ("category", "baseline")} for row in V2]
    for found, flags, sentence in (
        (plain, ["--category", "hard_prompt"], "it has no categories"),
        (V2[::2], ["--category", "creative_writing"], "it has hard_prompt"),
        ([*V2, *plain], [], "has rows without a category"),
        ([V2[1] | {"category": "b"}, V2[1] | {"category": "a"}], [], "mixes categories (a, b)"),
    ):
        path = write("m.jsonl", found)
        _, told = run("arena_hard", "--judgments", str(path), "--protocol", "v2.0", *flags, code=2)
        assert sentence in told.replace("\n", " ")


def test_arena_hard_with_few_verdicts(write: Write) -> None:
    """One question with a verdict of three is no score, raw or style-controlled; the other model keeps its own."""
    judged = [r | {"model": m} for m in ("m", "n") for r in V2[::2]]
    for row in judged[4:]:
        row["games"] = [None, {"score": "None"}]
    answers = [
        {"uid": row["uid"], "model": model, "answer": "x " * (3 + i + 4 * j), "token_len": 3 + i + 4 * j}
        for i, row in enumerate(V2[::2])
        for j, model in enumerate(("m", "n", HARD["baseline"]))
    ]
    told = ("--answers", str(write("answers.jsonl", answers)), "--protocol", "v2.0")
    report, _ = run("arena_hard", "--judgments", str(write("judged.jsonl", judged)), *told)
    assert [row["model"] for row in report["scores"]] == ["m", "n"]
    for metric in ("win_rate", "style_controlled"):
        assert value(report, metric, 0) is not None
        assert value(report, metric, 1) is None
        assert report["scores"][1]["metrics"][metric]["low"] is None
    for row in judged:
        row["games"] = [None, None]
    report, notes = run("arena_hard", "--judgments", str(write("judged.jsonl", judged)), *told)
    assert value(report, "win_rate") is None
    assert "no style-controlled score: no game has a valid verdict" in notes


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
    assert row["metrics"]["rating"]["value"] == pytest.approx(5.416, abs=0.001)  # 160 ratings: the re-run of one counts
    assert (row["replaced"], row["n_valid"]) == (1, 160)
    assert "160 rows repeat a question and turn" in told


def graded(question: int, turn: int, score: float, **more: Any) -> dict[str, Any]:
    return {"question_id": question, "model": "m", "turn": turn, "score": score} | more


QUESTIONS = [{"question_id": q, "category": c} for q, c in ((81, "writing"), (82, "math"), (83, "math"))]


def test_ratings_of_other_questions_and_outside_the_scale(write: Write) -> None:
    """Outside the questions and outside 1-10: told and left out. FastChat averages the latter."""
    judged = [
        graded(81, 1, 4, judgment="Rating: [[4]]"),
        graded(82, 1, 0, judgment="Rating: [[0]]"),
        graded(83, 2, 50, judgment="Rating: [[50]]"),
        graded(81, 2, -1, judgment="No rating."),
        graded(99, 1, 10),
        graded(82, 3, 10),
    ]
    flags = ("--questions", str(write("question.jsonl", QUESTIONS)))
    report, told = run("mt_bench", "--judgments", str(write("judged.jsonl", judged)), *flags)
    assert value(report, "rating") is None  # one question of three has a valid rating
    assert report["scores"][0]["show_result"] == pytest.approx((4 + 0 + 50 + 10 + 10) / 5)
    assert value(report, "math") is None
    assert value(report, "writing") == 4  # one question is all that the category has
    assert report["scores"][0]["messy"]
    assert "2 rows are of no expected question and turn" in told
    assert "3 ratings are not valid (2 out of range, 1 no label)" in told
    assert "2 rows differ from the stored score" in told
    report, told = run("mt_bench", "--judgments", str(write("one.jsonl", [graded(81, 1, 4, judgment="[[0]]")])))
    assert "1 rows differ from the stored score" in told
    assert value(report, "rating") is None


def test_one_question_of_several_is_no_rating(write: Write) -> None:
    flags = ("--questions", str(write("question.jsonl", QUESTIONS)))
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
    for found, metric in ((single, "rating"), (pair, "win_rate_adjusted")):
        report, told = run("mt_bench", "--judgments", str(write("judged.jsonl", found)), *flags)
        for name in (metric, "turn_1", "turn_2", "math"):
            assert value(report, name) is None
        assert "n/a" in told
        report, _ = run(
            "mt_bench", "--judgments", str(write("judged.jsonl", [*found, found[0] | {"question_id": 83}])), *flags
        )
        assert value(report, metric) is not None
        assert value(report, "turn_2") is None


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        *(("alpaca_eval", flag) for flag in ("--annotations", "--eval-set", "--model-outputs")),
        *(("mt_bench", flag) for flag in ("--judgments", "--questions")),
        ("arena_hard", "--judgments"),
    ],
)
@pytest.mark.parametrize("name", ["empty.jsonl", "empty.json"])
def test_empty_files_are_named(command: str, flag: str, name: str, toy: dict[str, Any], write: Write) -> None:
    empty = write(name, [])
    good = {
        "alpaca_eval": {"--annotations": toy["judged_path"], "--eval-set": toy["set_path"]},
        "mt_bench": {"--judgments": write("judged.jsonl", [graded(81, 1, 5)])},
        "arena_hard": {},
    }[command]
    arguments = [str(part) for pair in (good | {flag: empty}).items() for part in pair]
    _, told = run(command, *arguments, code=2)
    assert f"{name} holds no rows" in told.replace("\n", " ")


def test_empty_anchors_are_named(toy: dict[str, Any]) -> None:
    (toy["set_path"].parent / "df_gamed.csv").write_text("index,std_delta_len,preference\n")
    _, told = issue(toy, code=2)
    assert "df_gamed.csv holds no rows" in told.replace("\n", " ")


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
        found = differences_from(list("abcde"), values.mean(1), values @ weights.T / 200, "a", 200)
        false += any(d.verdict != "no difference shown" for d in found)
    assert false / 400 < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
