"""Question files of MMLU, ARC-Challenge and other tasks of lm-eval: checked by line, counted, drawn."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, golden
from kit.questions import SUBJECTS, any_task, context, policy, write_data, write_splits

from benchmarks.lmeval import ARC0, ARC25, MMLU5, AnyTask, LMEval, tasks
from benchmarks.shared.subset import draw_subset
from harness.errors import UserError
from harness.score.bootstrap import interval, replicates


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Questions of our own in the layout that --data-dir has."""
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path / "official"))
    return write_data(tmp_path / "official")


QUESTION = {"subject": "anatomy", "question": "x?", "choices": ["a", "b", "c", "d"], "answer": 1}
OPTIONS = {"id": "q", "question": "x?", "choices": ["a", "b", "c"], "answer": 1}
HUB = {"text": ["a", "b"], "label": ["1", "2"]}


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        (MMLU5, {"answer": ""}, "'answer' must be 0 to 3, or A to D, not ''"),
        (MMLU5, {"answer": "BC"}, "not 'BC'"),
        (MMLU5, {"answer": "a"}, "not 'a'"),
        (MMLU5, {"answer": 7}, "not 7"),
        (MMLU5, {"answer": -1}, "not -1"),
        (MMLU5, {"answer": True}, "not True"),
        (MMLU5, {"answer": 1.0}, "not 1.0"),
        (MMLU5, {"answer": None}, "not None"),
        (MMLU5, {"choices": ["a", "b", "c"]}, "'choices' must be 4 texts, not 3"),
        (MMLU5, {"choices": "abcd"}, "'choices' must be a list of texts, not 'abcd'"),
        (MMLU5, {"choices": ["a", "b", "c", 4]}, "'choices' must be a list of texts"),
        (MMLU5, {"choices": ["a", "b", "c", "\udc00"]}, "'choices' holds half of a surrogate pair"),
        (MMLU5, {"question": " \n"}, "'question' must be a text that is not empty"),
        (MMLU5, {"question": 3}, "'question' must be a text that is not empty, not 3"),
        (MMLU5, {"question": "\ud800?"}, "'question' holds half of a surrogate pair"),
        (MMLU5, {"subject": ""}, "'subject' must be a text that is not empty"),
        (MMLU5, {"subject": None}, "'subject' must be a text that is not empty, not None"),
        (ARC0, {"answer": 3}, "'answer' must be 0 to 2, not 3"),
        (ARC0, {"answer": -1}, "not -1"),
        (ARC0, {"answer": "A"}, "not 'A'"),
        (ARC0, {"answerKey": "D"}, "'answerKey' must be one of A, B, C, not 'D'"),
        (ARC0, {"answerKey": 1}, "'answerKey' must be one of A, B, C, not 1"),
        (ARC0, {"labels": ["A", "B"]}, "needs a label of its own: 3 have ['A', 'B']"),
        (ARC0, {"labels": ["A", "B", "A"]}, "needs a label of its own"),
        (ARC0, {"labels": [1, 2, 3]}, "'label' must be a list of texts"),
        (ARC0, {"choices": list("abcdef")}, "needs a label of its own: 6 have"),
        (ARC0, {"choices": ["a"], "answer": 0}, "each of two or more options"),
        (ARC0, {"choices": ["a", "", "c"]}, "an option is empty"),
        (ARC0, {"choices": "abc"}, "'choices' must be a list of texts, or an object"),
        (ARC0, {"choices": {"text": ["a", "b"]}}, "'label' must be a list of texts, not None"),
        (ARC0, {"choices": HUB, "answerKey": "A"}, "'answerKey' must be one of 1, 2, not 'A'"),
        (ARC0, {"id": "\ud800"}, "'id' holds half"),
    ],
)
def test_rows_that_are_no_question_are_reported_with_their_line(
    kind: type[LMEval], change: dict[str, Any], sentence: str, data: Path
) -> None:
    good, folder = (QUESTION, "mmlu") if kind is MMLU5 else (OPTIONS, "arc_challenge")
    path = data / folder / "test.jsonl"
    path.write_text(f"{json.dumps(good)}\n\n{json.dumps(good | {'id': 'other'} | change)}\n")
    with pytest.raises(UserError) as caught:
        kind().protocol()
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert sentence in str(caught.value)


def test_all_forms_of_a_question_are_one(data: Path) -> None:
    """Letters and numbers, labels and their places; the columns are the Hub's."""
    path = data / "mmlu/test.jsonl"
    path.write_text("".join(json.dumps(QUESTION | {"answer": a}) + "\n" for a in (0, 3, "A", "D")))
    assert [r["answer"] for r in MMLU5.source.local()["anatomy"]["test"]] == [0, 3, 0, 3]
    rows = [OPTIONS, OPTIONS | {"answerKey": "B"}, OPTIONS | {"choices": {"text": list("abc"), "label": list("ABC")}}]
    path = data / "arc_challenge/test.jsonl"
    path.write_text("".join(json.dumps(r | {"id": i}) + "\n" for i, r in enumerate(rows, 1)))
    expected = {"question": "x?", "choices": {"text": list("abc"), "label": list("ABC")}, "answerKey": "B"}
    assert ARC0.source.local()["default"]["test"] == [{"id": str(i)} | expected for i in (1, 2, 3)]


def test_the_official_items_pass_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden data row by row; the official MMLU holds some questions twice, which is reported and not refused."""
    questions, examples = golden("mmlu", "test_first18_per_subject.jsonl"), golden("mmlu", "dev.jsonl")
    arc = golden("arc_challenge", "test.jsonl")
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(GOLDEN))
    raw = [json.loads(line) for line in questions.read_text(encoding="utf-8").split("\n") if line]
    subjects = MMLU5.source.local()
    assert sum(len(splits["test"]) for splits in subjects.values()) == len(raw) == 1026
    for row in raw:
        assert {k: row[k] for k in ("question", "subject", "choices", "answer")} in subjects[row["subject"]]["test"]
    assert MMLU5().protocol()["data"] == hashlib.sha256(questions.read_bytes() + examples.read_bytes()).hexdigest()[:16]
    assert MMLU5().notes() == ["2 of 1,026 questions repeat an earlier one and count again"]
    raw = [json.loads(line) for line in arc.read_text(encoding="utf-8").split("\n") if line]
    for row, ours in zip(raw, ARC25.source.local()["default"]["test"], strict=True):
        assert ours["choices"] == {"text": row["choices"], "label": row["labels"]}
        assert ours["answerKey"] == row["labels"][row["answer"]]
    assert ARC25().notes() == []


def test_subjects_need_examples_and_a_task(data: Path) -> None:
    dev, test = data / "mmlu/dev.jsonl", data / "mmlu/test.jsonl"
    whole = dev.read_text()
    with dev.open("a") as file:
        file.write(json.dumps(QUESTION | {"subject": "astronomy"}) + "\n")
    assert set(MMLU5.source.local()) == set(SUBJECTS)  # nothing is asked of astronomy
    dev.write_text("\n".join(whole.split("\n")[1:]))
    with pytest.raises(UserError, match=r"dev.jsonl has 4 questions of the subject 'anatomy', but 5 are shown"):
        MMLU5().protocol()
    dev.write_text("\n".join(whole.split("\n")[5:]))
    with pytest.raises(UserError, match=r"dev.jsonl has 0 questions of the subject 'anatomy'"):
        MMLU5().protocol()
    for path in (dev, test):
        path.write_text(path.read_text() + 5 * (json.dumps(QUESTION | {"subject": "alchemy"}) + "\n"))
    with pytest.raises(UserError, match="lm-eval has no task 'mmlu_alchemy': fix the subjects in mmlu"):
        MMLU5().protocol()
    path = data / "arc_challenge/train.jsonl"
    path.write_text("\n".join(path.read_text().split("\n")[:24]))
    assert ARC0().protocol()["shots"] == 0
    with pytest.raises(UserError, match=r"train.jsonl has 24 questions, but 25 are shown"):
        ARC25().protocol()
    path.write_text("\n")
    with pytest.raises(UserError, match="train.jsonl holds no row"):
        ARC0().protocol()


def test_ids_and_questions_that_stand_twice(data: Path) -> None:
    path, other = data / "arc_challenge/test.jsonl", OPTIONS | {"question": "y?"}
    path.write_text("".join(json.dumps(row) + "\n" for row in (OPTIONS, other | {"id": "r"}, other)))
    with pytest.raises(UserError, match=r"test.jsonl, line 3: line 1 has the id 'q' too: give each its own"):
        ARC0().protocol()
    path.write_text("".join(json.dumps(row | {"id": None}) + "\n" for row in (OPTIONS, other, other, OPTIONS)))
    benchmark = ARC0()
    assert benchmark.protocol()["data"]
    assert benchmark.notes() == ["2 of 4 questions repeat an earlier one and count again"]
    path = data / "mmlu/test.jsonl"  # ids that begin anew with each subject
    rows = [QUESTION | {"id": 0}, QUESTION | {"id": 0, "subject": "virology"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert MMLU5().protocol()["label"] == "2 of 14,042"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("{broken", "line 2: Expecting property name"),
        ('{"question": 3}', "line 2: 'question' is a number, but a text in line 1: give each column one kind of value"),
        ('{"mc1_targets": {"labels": [1, "0"]}}', "line 2: 'mc1_targets.labels[]' is a text, but a number in line 1"),
        ('{"mc1_targets": []}', "line 2: 'mc1_targets' is a list, but an object in line 1"),
        ('{"question": "\\ud800"}', "line 2: 'question' holds half of a surrogate pair"),
    ],
)
def test_tables_of_any_task_are_read_when_planning(row: str, sentence: str, data: Path) -> None:
    good = {"question": "x?", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0.5]}, "none": None}
    write_splits(data, "truthfulqa_mc2", {"validation": [good]})
    path = data / "lm_eval/truthfulqa_mc2/validation.jsonl"
    assert any_task("truthfulqa_mc2").protocol()
    with path.open("a") as file:
        file.write(row + "\n")
    with pytest.raises(UserError) as caught:
        any_task("truthfulqa_mc2").protocol()
    assert str(caught.value).startswith(f"{path}, {sentence}")


def test_the_label_of_any_task_says_of_how_many(data: Path) -> None:
    rows = [{"question": f"{i}?"} for i in range(1200)]
    write_splits(data, "truthfulqa_mc2", {"validation": rows, "train": rows[:1]})
    labels = {n: any_task("truthfulqa_mc2", limit=n).protocol()["label"] for n in (0, 7, 1200, 1300)}
    assert labels == {0: "lm-eval", 7: "7 of 1,200, drawn", 1200: "lm-eval", 1300: "lm-eval"}
    write_splits(data, "arc_challenge", {"test": rows[:9], "validation": rows})  # its splits stand in what it includes
    assert any_task("arc_challenge", limit=7).protocol()["label"] == "7 of 9, drawn"
    write_splits(data, "gpqa_main_zeroshot", {"train": rows})  # a function prepares them: their number is not known
    assert any_task("gpqa_main_zeroshot", limit=7).protocol()["label"] == "7 drawn"
    assert any_task("ifeval", limit=7, revision="a" * 40).protocol()["label"] == "7 drawn"


def test_questions_of_a_folder_are_given_for_the_check_of_training_data(
    data: Path, load: Callable[[], Any], tokenizer: Any
) -> None:
    raw = [json.loads(line) for line in (data / "mmlu/test.jsonl").read_text().split("\n") if line]
    assert MMLU5().prompt_texts() == [r["question"] for r in raw]
    benchmark = MMLU5(MMLU5.Options.model_validate({"limit": 9}))
    rows = benchmark.answer(context(policy(load(), tokenizer)))
    by = {s: [r["question"] for r in raw if r["subject"] == s] for s in SUBJECTS}
    assert benchmark.prompt_texts() == [by[r["task"].removeprefix("mmlu_")][r["doc_id"]] for r in rows]
    assert len(ARC25().prompt_texts()) == 4
    assert any_task("ifeval").prompt_texts() == []


def test_planning_is_quick(data: Path) -> None:
    """Neither torch nor lm-eval is imported to check the data."""
    script = (
        "import sys; from benchmarks.lmeval import MMLU5, ARC25; "
        "[(kind().protocol(), kind().prompt_texts()) for kind in (MMLU5, ARC25)]; "
        "print([m for m in ('torch', 'lm_eval', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_interval_of_a_drawn_subset_covers_the_whole_set() -> None:
    """Known set, drawn by subject and weighted as a benchmark does; the nominal 95% errs on the wide side."""
    rng, hits, widths, values = np.random.default_rng(0), 0, [], []
    sizes = {"a": 300, "b": 120, "c": 60, "d": 20}
    true = {
        name: rng.random(size) < share for (name, size), share in zip(sizes.items(), (0.9, 0.5, 0.3, 0.1), strict=True)
    }
    truth = 100 * sum(v.sum() for v in true.values()) / 500
    for seed in range(400):
        chosen = draw_subset(sizes, 60, seed)
        rows = [(float(true[n][i]), sizes[n] / len(places), n) for n, places in chosen.items() for i in places]
        columns = {"id": [f"{n}{i}" for i, (_, _, n) in enumerate(rows)], "y": [r[0] for r in rows]}
        columns["weight"] = [r[1] for r in rows]
        value, samples = replicates("weighted_percent", columns, "y")
        estimate = interval(value, samples, len(rows))
        hits += estimate.low <= truth <= estimate.high
        widths.append(estimate.high - estimate.low)
        values.append(value)
    assert hits / 400 >= 0.93
    assert np.mean(values) == pytest.approx(truth, abs=1)
    assert np.mean(widths) > 3.92 * np.std(values)


def test_subsets_are_proportional_nested_and_unbiased() -> None:
    sizes = {"a": 100, "b": 33, "c": 5, "d": 1}
    for limit in (4, 10, 50, 138, 139, 200):
        drawn_places = draw_subset(sizes, limit)
        assert sum(map(len, drawn_places.values())) == min(limit, 139)
        for name, places in drawn_places.items():
            assert places == sorted(set(places))
            assert set(places) <= set(range(sizes[name]))
            assert len(places) >= 1
            assert abs(len(places) - 1 - (limit - 4) * (sizes[name] - 1) / 135) < 1 or limit > 139
    assert set(draw_subset(sizes, 10)["a"]) <= set(draw_subset(sizes, 50)["a"])
    assert draw_subset(sizes, 50, 1)["a"] != draw_subset(sizes, 50)["a"]
    drawn = [i for seed in range(400) for i in draw_subset({"a": 20}, 5, seed)["a"]]
    assert np.bincount(drawn, minlength=20).min() > 60  # 100 expected, sd about 9
    with pytest.raises(UserError, match="4 subjects"):
        draw_subset(sizes, 3)


def test_local_files_that_do_not_fit_a_task_are_reported(data: Path) -> None:
    write_splits(data, "truthfulqa_mc2", {"validation": [{"question": "x"}]})
    with pytest.raises(UserError, match="do not fit lm-eval's task truthfulqa_mc2"):
        any_task("truthfulqa_mc2").tasks()
    write_splits(data, "arc_easy", {"train": [{"question": "x"}]})
    with pytest.raises(UserError, match="do not fit lm-eval's task arc_easy"):
        any_task("arc_easy").tasks()
    write_splits(data, "arc_easy", {"train": [{"question": 2**70}]})
    with pytest.raises(UserError, match=r"do not fit lm-eval's task arc_easy \(OverflowError"):
        any_task("arc_easy").tasks()
    with pytest.raises(UserError, match="limit is 2, but there are 3 subjects"):
        MMLU5(MMLU5.Options.model_validate({"limit": 2})).protocol()


def test_lm_eval_that_is_not_installed_is_reported(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tasks, "version", none)
    for make in (lambda: MMLU5().protocol(), lambda: any_task("ifeval", revision="a" * 40).protocol()):
        with pytest.raises(UserError, match=r"python -m pip install '\.\[lm-eval\]' in a clone"):
            make()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AnyTask().protocol(), "write lm_eval:TASK"),
        (lambda: any_task("truthfulqa_mc3").protocol(), "did you mean 'truthfulqa_mc2'"),
        (lambda: any_task("/etc/[x").protocol(), "Unknown task of lm-eval"),
        (lambda: any_task("mmlu").protocol(), "is a group of tasks"),
        (lambda: any_task("wikitext", revision="a" * 40).tasks(), "data of lm-eval's task wikitext cannot be read"),
        (lambda: any_task("ifeval").protocol(), "needs data: write benchmarks: {lm_eval:ifeval: {revision: COMMIT}}"),
        (lambda: MMLU5.member("x"), "is no family"),
        (lambda: MMLU5().protocol(), "give --data-dir with mmlu/test.jsonl"),
    ],
)
def test_what_is_wrong_is_reported(
    make: Callable[[], Any], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SAIL_BENCH_DATA_DIR", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=sentence):
        make()


def test_data_that_do_not_fit_are_reported(data: Path) -> None:
    (data / "mmlu/dev.jsonl").unlink()
    with pytest.raises(UserError, match="lacks dev.jsonl"):
        MMLU5().protocol()


def test_definitions_hash_what_they_include(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("include: b.yaml\ntask: a\nprocess_docs: !function utils.f\n")
    (tmp_path / "b.yaml").write_text("task: b\n")
    (tmp_path / "utils.py").write_text("f = 1\n")
    seen = {tasks.definitions_hash([tmp_path / "a.yaml"])}
    for name in ("a.yaml", "b.yaml", "utils.py"):
        with (tmp_path / name).open("a") as file:
            file.write("# changed\n")
        seen.add(tasks.definitions_hash([tmp_path / "a.yaml"]))
    assert len(seen) == 4
