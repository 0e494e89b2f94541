"""Files in alpaca_eval's layouts: broken ones, folders, the model that a file is of, the official set."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import golden
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit.alpaca_files import JUDGE, annotation, completion_for, score_of, set_rows, write_json, write_set
from kit.evaluation_cases import cases

from benchmarks.alpaca_eval.evaluation_set import OFFICIAL_COUNT, read_evaluation_set
from benchmarks.alpaca_eval.official import AlpacaEval2, AlpacaEval2Options
from benchmarks.alpaca_eval.score_files import score_annotation_files
from harness.cli import main
from harness.errors import UserError

COUNT = 6

# One bad value in good rows


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("instruction", 3, "the key 'instruction' holds 3: a text is expected"),
        ("instruction", None, "the key 'instruction' holds null: a text is expected"),
        ("output_1", ["x"], "the key 'output_1' holds [\"x\"]: a text is expected"),
        ("output_2", 5.5, "the key 'output_2' holds 5.5: a text is expected"),
        ("output_2", True, "the key 'output_2' holds true: a text is expected"),
        ("generator_2", {}, "the key 'generator_2' holds {}: a text is expected"),
        ("annotator", 4, "the key 'annotator' holds 4: a text is expected"),
        ("is_switched_outputs", "no", "the key 'is_switched_outputs' holds \"no\": true or false is expected"),
    ],
)
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_broken_annotation_is_named_with_file_place_and_key(
    key: str, value: Any, sentence: str, kind: str, tmp_path: Path
) -> None:
    rows = [annotation(i, 1.5) for i in range(COUNT)]
    rows[2][key] = value
    path = write_json(tmp_path / "annotations.json", rows)
    if kind == "jsonl":
        path = tmp_path / "annotations.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as error:
        score_of(path, write_set(tmp_path, COUNT))
    assert str(error.value) == f"{path}, {'item' if kind == 'json' else 'line'} 3: {sentence}"


@pytest.mark.parametrize("key", ["instruction", "preference"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    rows = [annotation(i, 1.5) for i in range(COUNT)]
    del rows[1][key]
    path = write_json(tmp_path / "annotations.json", rows)
    with pytest.raises(UserError, match=f"item 2: the key '{key}' is missing"):
        score_of(path, write_set(tmp_path, COUNT))


def test_a_broken_outputs_file_is_named_and_a_missing_answer_is_none(tmp_path: Path) -> None:
    rows = [annotation(i, 1.5, output_2=None) for i in range(COUNT)]
    path, evaluation_set = write_json(tmp_path / "ann.json", rows), write_set(tmp_path, COUNT, controlled=True)
    answers = [{"instruction": row["instruction"], "output": "four", "generator": "ours"} for row in rows]
    outputs = write_json(tmp_path / "outputs.json", [*answers, {"instruction": "Other", "output": 3}])
    with pytest.raises(UserError, match=r"outputs.json, item 7: the key 'output' holds 3: a text is expected"):
        score_of(path, evaluation_set, outputs=outputs)
    answers[3]["output"] = None
    score = score_of(path, evaluation_set, outputs=write_json(outputs, answers))
    assert score["metrics"]["length_controlled"]["value"] is None
    assert any("1 rows have no output_2" in warning for warning in score["warnings"])
    rerun = {"instruction": rows[3]["instruction"], "output": "a later answer"}
    score = score_of(path, evaluation_set, outputs=write_json(outputs, [*answers, rerun]))
    assert score["metrics"]["length_controlled"]["value"] is not None
    assert score["avg_length"] == (4 * 5 + len(rerun["output"])) // 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"instruction": 7}, "the key 'instruction' holds 7: a text is expected"),
        ({"output": 7}, "the key 'output' holds 7: a text is expected"),
        ({"generator": []}, "the key 'generator' holds []: a text is expected"),
        ({"instruction": set_rows(1)[0]["instruction"]}, "the instruction of item 1 again: leave one out"),
    ],
)
def test_a_broken_evaluation_set_is_named(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    rows = set_rows(COUNT)
    rows[4] |= change
    path = write_json(tmp_path / "set.json", rows)
    with pytest.raises(UserError) as error:
        read_evaluation_set(path, None)
    assert str(error.value) == f"{path}, item 5: {sentence}"


@pytest.mark.parametrize(
    ("file", "line", "sentence"),
    [
        (
            "instruction_difficulty.csv",
            "2,x",
            "row 3: the column 'instruction_difficulty' holds 'x', and a number",
        ),
        ("instruction_difficulty.csv", "2", "row 3: the column 'instruction_difficulty' holds '', and a number"),
        ("instruction_difficulty.csv", "2,nan", "row 3: the column 'instruction_difficulty' holds 'nan', and a number"),
        ("df_gamed.csv", "-1,1.0,0.5", "row 3: the column 'index' holds '-1', and a whole number from 0 to 5"),
        ("df_gamed.csv", "6,1.0,0.5", "row 3: the column 'index' holds '6', and a whole number from 0 to 5"),
        ("df_gamed.csv", "1.5,1.0,0.5", "row 3: the column 'index' holds '1.5', and a whole number from 0 to 5"),
        ("df_gamed.csv", "1,inf,0.5", "row 3: the column 'std_delta_len' holds 'inf', and a number"),
        ("df_gamed.csv", "1,1.0,1.5", "row 3: the column 'preference' holds '1.5', and a number from 0 to 1"),
    ],
)
def test_broken_tables_of_length_control_are_named(file: str, line: str, sentence: str, tmp_path: Path) -> None:
    path = write_set(tmp_path, COUNT, controlled=True)
    lines = (path.parent / file).read_text().split("\n")
    lines[3] = line
    (path.parent / file).write_text("\n".join(lines))
    with pytest.raises(UserError) as error:
        read_evaluation_set(path, None)
    assert str(error.value) == f"{path.parent / file}, {sentence} is expected"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0, 1, 1.5, 2, "m", "M", 10**400, -0.3])
    | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["logprobs", "content", "top_logprobs", "token", "logprob", "message", "finish_reason", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
LAYOUTS = {
    "annotations": [*annotation(0, 1.5), "is_switched_outputs", "raw_completion"],
    "outputs": ["instruction", "output", "generator"],
    "set": ["instruction", "output", "baseline_output", "generator"],
}
CHANGES = st.sampled_from([(name, key) for name, keys in LAYOUTS.items() for key in keys])


def deep(depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


@given(st.lists(st.tuples(CHANGES, st.integers(0, COUNT - 1), JSON), min_size=1, max_size=4))
@example([(("annotations", "raw_completion"), 1, {"logprobs": {"content": [{"top_logprobs": None}]}})])
@example([(("annotations", "raw_completion"), 1, deep(300)), (("annotations", "preference"), 1, None)])
@example([(("annotations", "generator_2"), 1, "[/b]\ud83d")])
@example([(("set", "instruction"), 1, "\ud83d"), (("annotations", "instruction"), 1, "\ud83d")])
@settings(max_examples=150, deadline=None)
def test_any_values_in_the_rows(changes: list[tuple[tuple[str, str], int, Any]]) -> None:
    """Never an exception but our sentence, never a value outside its range."""
    annotations = [annotation(i, 1.2, output_2=None if i % 2 else "text") for i in range(COUNT)]
    annotations[1] |= {"preference": None, "raw_completion": completion_for(1, 1.3)}
    outputs = [{"instruction": row["instruction"], "output": "four", "generator": "ours"} for row in annotations]
    rows = {"annotations": annotations, "outputs": outputs, "set": set_rows(COUNT)}
    for (name, key), place, value in changes:
        rows[name][place][key] = value
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_set(folder, COUNT, controlled=True)
        write_json(path, rows["set"])
        arguments = [f"--annotations={write_json(folder / 'annotations.json', rows['annotations'])}"]
        arguments += [f"--model-outputs={write_json(folder / 'outputs.json', rows['outputs'])}", f"--eval-set={path}"]
        done = CliRunner().invoke(main, ["score", "alpaca_eval", *arguments])
        if done.exit_code == 2:
            assert "Traceback" not in done.output
            return
        assert done.exit_code == 0, done.exception
        report = json.loads(done.stdout, parse_constant=pytest.fail)
    for score in report["scores"]:
        assert score["n_valid"] + sum(score["invalid"].values()) == score["n_total"] == COUNT
        for metric in score["metrics"].values():
            assert all(bound is None or -1e-9 <= bound <= 100 + 1e-9 for bound in [metric["value"]])


def test_files_with_a_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    rows = [annotation(i, 1.2) for i in range(COUNT)]
    path = tmp_path / "annotations.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(json.dumps(row) + "\r\n" for row in rows).encode())
    assert score_of(path, write_set(tmp_path, COUNT))["n_valid"] == COUNT


# Folders, names


def write_models(folder: Path, layout: str, **generators: str | None) -> list[Path]:
    """A file of annotations for each keyword, whose value is the name that its rows give the model."""
    rows = {
        model: [annotation(i, 1.1, generator_2=name) | {"annotator": JUDGE} for i in range(COUNT)]
        for model, name in generators.items()
    }
    return [write_json(folder / layout.format(model), rows[model]) for model in generators]


def models_of(*paths: Path, evaluation_set: Path) -> list[str]:
    return [score["model"] for score in score_annotation_files(paths, evaluation_set).as_json()["scores"]]


OFFICIAL = "{}/" + JUDGE + "/annotations.json"


@pytest.mark.parametrize("layout", [OFFICIAL, "{}/annotations.json", "{}.json", "deep/{}/annotations.json"])
@pytest.mark.parametrize("name", ["own", "example", None])
def test_a_folder_of_annotations(layout: str, name: str | None, tmp_path: Path) -> None:
    """Models are named by the rows, else by the folder of each, or the file where a folder holds several."""
    folder = tmp_path / "results"
    own = {model: f"{name}-{model}" if name == "own" else name for model in ("m1", "m2", "m3")}
    write_models(folder, layout, **own)
    write_json(folder / "m1" / "model_outputs.json", [{"instruction": "x", "output": "y"}])
    write_json(folder / "alpaca_eval.json", set_rows(COUNT))
    names = models_of(folder, evaluation_set=write_set(tmp_path, COUNT))
    assert sorted(names) == [f"own-{model}" if name == "own" else model for model in own]


def test_several_files_after_one_option(tmp_path: Path) -> None:
    paths = write_models(tmp_path, "{}.json", a="a", b="b", c="c")
    evaluation_set = write_set(tmp_path, COUNT)
    arguments = [
        "--annotations",
        *map(str, paths[:2]),
        "--eval-set",
        str(evaluation_set),
        "--annotations",
        str(paths[2]),
    ]
    done = CliRunner().invoke(main, ["score", "alpaca_eval", *arguments])
    assert done.exit_code == 0, done.output
    assert sorted(score["model"] for score in json.loads(done.stdout)["scores"]) == ["a", "b", "c"]


def test_two_files_of_the_same_model_are_named(tmp_path: Path) -> None:
    first, second = write_models(tmp_path, "{}.json", a="same", b="same")
    evaluation_set = write_set(tmp_path, COUNT)
    for paths in ([first, second], [first, first]):
        with pytest.raises(UserError) as error:
            score_annotation_files(paths, evaluation_set)
        assert str(error.value) == f"{paths[0]} and {paths[1]} hold the same model, same: leave one out"


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(UserError, match="results holds no annotations.json"):
        score_annotation_files([tmp_path / "results"], write_set(tmp_path, COUNT))


# Which set


def test_the_official_set_is_known_by_its_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = golden("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl")
    rows = [json.loads(line) for line in official.read_text(encoding="utf-8").split("\n") if line]
    assert read_evaluation_set(official, None).official
    folder = tmp_path / "alpaca_eval"
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))

    def label(rows: list[dict[str, Any]], limit: int = 0) -> Any:
        write_json(folder / "alpaca_eval_gpt4_baseline.json", rows)
        return AlpacaEval2(AlpacaEval2Options(limit=limit))._label()

    texts = [{"instruction": row["instruction"], "output": "another baseline's"} for row in rows]
    assert label(texts) == label(texts, OFFICIAL_COUNT) == label(texts, 10**6) == "official set"
    assert label(texts, 100) == "first 100 instructions"
    assert label(texts[:3]) == "3 instructions of another set"
    assert label(texts[1:]) == "804 instructions of another set"
    assert label(texts[::-1]) == "805 instructions of another set"
    assert label([*texts[:-1], {"instruction": "Mine", "output": "x"}]) == "805 instructions of another set"


def test_a_small_folder_is_not_the_official_set(tmp_path: Path) -> None:
    path = write_json(tmp_path / "annotations.json", [annotation(i, 1.5) for i in range(3)])
    score = score_of(path, write_set(tmp_path, 3))
    assert score["protocol"]["official_set"] is False
    assert score["caption"] == "another set of 3 instructions; aligned by instruction"
    folder = "05-null-with-logprobs"
    score = score_of(cases(folder, "ann.json"), cases(folder, "alpaca_eval.json"))
    assert "another set of 20 instructions" in score["caption"]


@pytest.mark.parametrize("field", [{"output": None}, {}, {"output": None, "baseline_output": None}])
def test_no_answer_of_the_baseline_is_not_the_text_none(
    field: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"instruction": "One", "output": "x"}, {"instruction": "Two"} | field]
    path = write_json(tmp_path / "alpaca_eval" / "alpaca_eval_gpt4_baseline.json", rows)
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError) as error:
        AlpacaEval2().cost(0, True)  # when it is planned
    assert str(error.value) == f"{path}, item 2: the baseline's answer is missing: give it as 'output'"
    assert AlpacaEval2(AlpacaEval2Options(limit=1)).prompt_texts() == ["One"]


def test_the_table_says_which_alignment_and_fit(tmp_path: Path) -> None:
    path = write_json(tmp_path / "annotations.json", [annotation(i, 1 + i % 3 / 3) for i in range(1, COUNT)])
    evaluation_set = write_set(tmp_path, COUNT, controlled=True)
    for flags, words in (
        ([], "aligned by instruction; length control by the exact fit"),
        (["--row-numbers"], "difficulty by row number (--row-numbers); length control by the exact fit"),
        (["--fit", "official", "--c", "2.5"], "aligned by instruction; length control by the official fit"),
    ):
        arguments = ["--annotations", str(path), "--eval-set", str(evaluation_set), *flags]
        done = CliRunner().invoke(main, ["score", "alpaca_eval", *arguments])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["caption"].endswith(words)
        assert words.split("; ")[0] in " ".join(done.stderr.split())
        assert ("C of" in done.stderr) == ("2.50" in done.stderr) == ("--c" in flags)
