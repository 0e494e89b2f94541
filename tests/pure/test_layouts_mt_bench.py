"""FastChat's layouts are validated on reading: a sentence with file, line and key, before any work."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.evaluation_cases import cases
from kit.mt_bench_files import PROMPTS, played, rated, score_command, write_data
from kit.rows import write_rows

from benchmarks.mt_bench.layouts import Answer, JudgePrompt, PairwiseJudgment, Question, SingleJudgment
from benchmarks.mt_bench.official_pairwise import MTBenchPairwise, PairwiseOptions
from benchmarks.mt_bench.official_questions import MTBenchOptions
from benchmarks.mt_bench.official_single import OfficialMTBench
from benchmarks.mt_bench.score_pairwise import score_pairwise_games
from benchmarks.mt_bench.score_single import score_single_ratings
from benchmarks.shared.judgment_files import FileRow, typed_row
from benchmarks.shared.score_report import score_tables
from harness.errors import UserError
from harness.store.settings import Settings, using

SINGLE = [rated(81, 1, 7, "[[7]]"), rated(81, 2, 8), rated(82, 1, 7), rated(82, 2, 8)]
PAIR = [played(81, t, ("model_1", "tie"), ("[[A]]", "[[C]]")) for t in (1, 2)]


@pytest.mark.parametrize(
    ("rows", "key", "value"),
    [
        *((SINGLE, "turn", value) for value in (None, "1", 1.5, True, [1], float("nan"))),
        *((SINGLE, "question_id", value) for value in (None, 1.5, True, [81], {})),
        *((SINGLE, "score", value) for value in ("7", "n/a", True, [7], {}, 10**400)),
        *((SINGLE, "model", value) for value in (None, 7, ["m"])),
        *((SINGLE, "judgment", value) for value in (7, ["[[7]]"], False)),
        *((SINGLE, "judge", value) for value in (7, [], [3], {})),
        *((PAIR, "g1_winner", value) for value in (None, "m", "A", 1, ["tie"])),
        *((PAIR, "model_2", value) for value in (None, 3, "m")),
        *((PAIR, "turn", value) for value in (None, "one")),
        *((PAIR, "g2_judgment", value) for value in (3, ["[[A]]"])),
    ],
)
def test_a_bad_value_among_good_rows_is_one_sentence(rows: list[Any], key: str, value: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "judged.jsonl", [*rows[:1], rows[1] | {key: value}, *rows[2:]])
    _, messages = score_command(path, code=2)
    assert f"{path}, line 2" in messages
    assert key in messages
    assert "Traceback" not in messages


def test_text_ids_stay_as_they_are(tmp_path: Path) -> None:
    rows = [row | {"question_id": f"mt-{row['question_id']}"} for row in SINGLE]
    path = write_rows(tmp_path / "judged.jsonl", rows)
    report, _ = score_command(path)
    assert report["scores"][0]["metrics"]["rating"]["value"] == 7.5
    questions = [{"question_id": f"mt-{i}", "category": c} for i, c in ((81, "writing"), (82, "rating"))]
    named = write_rows(tmp_path / "question.jsonl", questions)
    report, _ = score_command(path, "--questions", named)
    metrics = report["scores"][0]["metrics"]
    assert metrics["rating"]["value"] == metrics["writing"]["value"] == metrics["category rating"]["value"] == 7.5
    numbered = [row | {"question_id": str(row["question_id"])} for row in SINGLE]  # "81" is 81
    report, _ = score_command(write_rows(tmp_path / "numbers.jsonl", [*numbered[:2], *SINGLE[2:]]))
    assert report["scores"][0]["n_total"] == 4


def test_ids_of_both_kinds_are_refused(tmp_path: Path) -> None:
    _, messages = score_command(write_rows(tmp_path / "a.jsonl", [*SINGLE, rated("mt-83", 1, 7)]), code=2)
    assert "a.jsonl, line 5: the key 'question_id' holds 'mt-83', but line 1 81" in messages
    questions = write_rows(tmp_path / "question.jsonl", [{"question_id": "mt-81", "category": "x"}])
    _, messages = score_command(write_rows(tmp_path / "b.jsonl", SINGLE), "--questions", questions, code=2)
    assert "question.jsonl has question_id 'mt-81' where the judgments have 8" in messages


def test_names_may_hold_anything(tmp_path: Path) -> None:
    rows = [row | {"model": model} for row in SINGLE for model in ("[/b]", "half \ud83d", "[red]x", "")]
    report, messages = score_command(write_rows(tmp_path / "judged.jsonl", rows), "--reference", "[red]x")
    assert [score["model"] for score in report["scores"]] == ["", "[/b]", "[red]x", "half \ufffd"]
    assert "[/b]" in messages
    assert "[red]x" in messages


# planning


ONE_TURN = PROMPTS["single-v1"]


def plan(folder: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Protocols of both modes, as a plan makes them."""
    with using(Settings(data_dir=str(folder))):
        single = OfficialMTBench(MTBenchOptions(**options)).protocol()
        return single, MTBenchPairwise(PairwiseOptions(baseline="given", **options)).protocol()


def question(number: Any = 81, category: Any = "writing", turns: Any = ("One?", "Two?")) -> dict[str, Any]:
    return {"question_id": number, "category": category, "turns": list(turns) if isinstance(turns, tuple) else turns}


def answer(number: Any, *turns: Any) -> dict[str, Any]:
    return {"question_id": number, "choices": [{"turns": list(turns)}]}


@pytest.mark.parametrize(
    ("name", "rows", "parts"),
    [
        ("question", [question(), question(82, turns=[])], ["line 2", "'turns' holds 0 turns"]),
        ("question", [question(turns=["One?"])], ["line 1", "'turns' holds 1 turn,"]),
        ("question", [question(turns=None)], ["line 1", "'turns' holds null"]),
        ("question", [question(turns=["One?", None])], ["line 1", "'turns[1]' holds null"]),
        ("question", [question(), question()], ["line 2", "question 81 stands in line 1 too"]),
        ("question", [question(), question("x")], ["line 2", "'question_id'"]),
        ("question", [question(category=None)], ["line 1", "'category' holds null"]),
        ("reference_answer_gpt-4", [answer(111, "2")], ["line 1", "'choices[0].turns' holds 1 turn,", "111"]),
        ("reference_answer_gpt-4", [answer(111)], ["line 1", "holds 0 turns"]),
        ("reference_answer_gpt-4", [answer(112, "2", "4")], ["lacks a reference answer to question 111"]),
        ("reference_answer_gpt-4", [answer(111, 2, 4)], ["line 1", "'choices[0].turns[0]' holds 2"]),
        ("reference_answer_gpt-4", [{"question_id": 111, "choices": []}], ["line 1", "'choices' holds []"]),
        ("reference_answer_gpt-4", [{"question_id": 111, "choices": [None]}], ["line 1", "'choices[0]' holds null"]),
        ("reference_answer_gpt-4", [{"question_id": 111}], ["line 1", "'choices' is missing"]),
        ("model_answer/given", [answer(81, "g1", "g2"), answer(111, "g1")], ["line 2", "holds 1 turn,", "111"]),
        ("model_answer/given", [answer(81, "g1", "g2")], ["lacks an answer to question 111"]),
        ("judge_prompts", [{"name": "single-v1", "system_prompt": None, "prompt_template": ""}], ["'system_prompt'"]),
        (
            "judge_prompts",
            [{"name": "single-v1", "system_prompt": "", "prompt_template": "{question} {answer}"}],
            ["holds no prompt"],
        ),
    ],
)
def test_what_the_files_lack_is_refused_when_planned(
    name: str, rows: list[Any], parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        plan(write_data(tmp_path, **{name: rows}))
    for part in [f"{name}.jsonl", *parts]:
        assert part in str(error.value)


@pytest.mark.parametrize("template", ["{answer_c}", "{", "{question!r}", "{answer[0]}", "{question.x}", "{}", "{0}"])
def test_a_template_that_cannot_be_filled_is_refused_when_planned(template: str, tmp_path: Path) -> None:
    prompts = [{"name": n, "system_prompt": "S", "prompt_template": t} for n, t in PROMPTS.items()]
    for i, prompt in enumerate(prompts):
        broken = [p | {"prompt_template": p["prompt_template"] + template} if p is prompt else p for p in prompts]
        with pytest.raises(UserError, match=r"judge_prompts\.jsonl") as error:
            plan(write_data(tmp_path / str(i), judge_prompts=broken))
        assert prompt["name"] in str(error.value)


def test_cases_are_refused_when_planned() -> None:
    with pytest.raises(UserError, match=r"gpt-4\.jsonl, line 1: .* question 111 has two"):
        plan(cases("17-one-turn", "data1"))


# the label


def test_only_the_80_questions_are_the_official_set(tmp_path: Path) -> None:
    official = [question(i) for i in range(81, 161)]
    answers = [answer(i, "g1", "g2") for i in range(80, 162)]
    for rows, limit, label in (
        (official, 0, "official set"),
        (official[::-1], 0, "official set"),
        (official, 80, "official set"),
        (official, 5, "first 5 questions"),
        (official[:3], 0, "3 questions of your own"),
        (official[1:], 0, "79 questions of your own"),
        ([*official[1:], question(80)], 0, "80 questions of your own"),
        ([*official, question(161)], 0, "81 questions of your own"),
        (official[:3], 2, "first 2 of 3 questions of your own"),
    ):
        folder = write_data(tmp_path, question=rows, **{"model_answer/given": answers})
        assert [protocol["label"] for protocol in plan(folder, limit=limit)] == [label, label]


# anything in any place

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PLACES: dict[type[FileRow], dict[str, Any]] = {
    SingleJudgment: SINGLE[0],
    PairwiseJudgment: PAIR[0],
    Question: question(),
    Answer: answer(81, "a", "b"),
    JudgePrompt: {"name": "n", "system_prompt": "s", "prompt_template": "{question}"},
}


@given(st.sampled_from(list(PLACES)), st.data(), json_values)
def test_a_row_is_typed_or_refused_in_a_sentence(layout: type[FileRow], data: st.DataObject, value: Any) -> None:
    row = copy.deepcopy(PLACES[layout])
    key = data.draw(st.sampled_from([*row, "unknown"]))
    if key == "choices" and data.draw(st.booleans()):
        row["choices"][0]["turns"] = value
    else:
        row[key] = value
    try:
        typed_row(row, layout, "f.jsonl, line 1")
    except UserError as error:
        assert str(error).startswith(f"f.jsonl, line 1: the key '{key}")
        str(error).encode()


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.data())
def test_no_file_gives_a_value_outside_its_range(pairwise: bool, data: st.DataObject) -> None:
    score, rows = (score_pairwise_games, PAIR) if pairwise else (score_single_ratings, SINGLE)
    rows = [dict(row) for row in rows] * 2
    likely = json_values | st.sampled_from(["[[3]]", "[[A]]", "error", "tie", -1, 3, 85, 0.5, "m", 1, 2, "mt-81"])
    for _ in range(data.draw(st.integers(1, 4))):
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(likely)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "judged.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        try:
            report = score(path).as_json()
        except UserError as error:
            assert str(path) in str(error)
            return
    score_tables(report)
    json.dumps(report, ensure_ascii=False, allow_nan=False).encode()
    low, high = (0, 100) if pairwise else (1, 10)
    for model in report["scores"]:
        assert 0 <= model["n_valid"] <= model["n_total"]
        for metric in model["metrics"].values():
            for bound in (metric["value"], metric["low"], metric["high"]):
                assert bound is None or low <= bound <= high


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["question", "reference_answer_gpt-4", "judge_prompts", "model_answer/given"]), st.data())
def test_any_data_folder_is_planned_or_refused(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_data(Path(folder)) / "mt_bench" / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(json_values)
        write_rows(path, rows)
        try:
            plan(Path(folder))
        except UserError as error:
            assert "mt_bench" in str(error)
