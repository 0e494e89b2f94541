"""Files and folders of imported pairs: CSV, Zstandard, ``save_to_disk``, shards; and how their rows are divided."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from kit.training_cases import cases

from harness.errors import UserError
from harness.pairs.imported import ImportedPairs, imported_pairs
from harness.pairs.pair_source import locate_pair_source
from harness.recipe.recipe import PairsSpec
from harness.report.imported_pairs import data_paragraph

Row = dict[str, Any]


def row(number: Any, **more: Any) -> Row:
    return {"prompt": f"Question {number}, please?", "chosen": f"good {number}", "rejected": f"bad {number}"} | more


def lines(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    return lines(tmp_path / "test.jsonl", [row(f"of the test {i}") for i in range(6)])


def read(train: Path | str, test: Path | str, **more: Any) -> ImportedPairs:
    sizes = {"tune_prompts": 1, "eval_prompts": 2, "heldout_prompts": 2}
    return imported_pairs(
        PairsSpec.model_validate({"task": "preferences", "train": str(train), "test": str(test)} | sizes | more)
    )


def refusal(train: Path | str, test: Path | str, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(train, test, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ODD = [
    row(0, chosen='a "quoted", text', score_chosen=2, score_rejected=1.5),
    row(1, chosen="two\nlines\r\nand more", score_chosen=None, score_rejected=None),
    row(2, prompt="One\u2028two, ä", score_chosen=-1e-3, score_rejected=0),
    row(3, score_chosen=1, score_rejected=1),
]


def write_csv(path: Path, rows: list[Row], separator: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_csv_tsv_and_zstandard_hold_what_jsonl_holds(tmp_path: Path, test_file: Path) -> None:
    plain = read(lines(tmp_path / "a.jsonl", ODD), test_file)
    assert plain.counts["train"]["kept"] == {"score both answers alike": 1, "score the rejected answer higher": 1}
    write_csv(tmp_path / "a.csv", ODD)
    write_csv(tmp_path / "a.tsv", ODD, "\t")
    for name in ("a.csv", "a.jsonl"):
        packed = pyarrow.compress((tmp_path / name).read_bytes(), codec="zstd", asbytes=True)
        (tmp_path / f"{name}.zst").write_bytes(packed)
    for name in ("a.csv", "a.tsv", "a.csv.zst", "a.jsonl.zst"):
        other = read(tmp_path / name, test_file)
        assert (other.parts, other.counts) == (plain.parts, plain.counts), name
    (tmp_path / "b.jsonl.zst").write_bytes(b"no zstd")
    assert "b.jsonl.zst cannot be read" in refusal(tmp_path / "b.jsonl.zst", test_file)


def test_csv_as_pandas_writes_it(tmp_path: Path, test_file: Path) -> None:
    """With an index, numbers as floats, and lists of messages as JSON, or as Python prints them."""
    import pandas

    pku = [{"prompt": f"Q {i}?", "response_0": "no", "response_1": "yes", "better_response_id": 1} for i in range(3)]
    frame = pandas.DataFrame(pku)
    frame.to_csv(tmp_path / "a.csv")
    indexed = read(tmp_path / "a.csv", test_file)
    assert [r["chosen"] for r in indexed.parts["train"]] == ["yes"] * 2
    assert indexed.counts["train"]["columns_not_used"] == ["(no name)"]
    frame["better_response_id"] = [1.0, 0.0, None]
    frame.to_csv(tmp_path / "b.csv", index=False)
    assert "b.csv, line 4: 'better_response_id' must be 0 or 1, not None" in refusal(tmp_path / "b.csv", test_file)
    turns = [
        {"chosen": [{"role": "user", "content": f"Q {i}"}, {"role": "assistant", "content": word}]}
        for i, word in enumerate(("x", "y"))
    ]
    for turn in turns:
        turn["rejected"] = [turn["chosen"][0], {"role": "assistant", "content": "no"}]
    pandas.DataFrame([{k: json.dumps(v) for k, v in turn.items()} for turn in turns]).to_csv(tmp_path / "c.csv")
    assert read(tmp_path / "c.csv", test_file).parts == read(lines(tmp_path / "c.jsonl", turns), test_file).parts
    pandas.DataFrame(turns).to_csv(tmp_path / "d.csv", index=False)
    assert "d.csv, line 2: 'chosen' is a list of messages written as one text" in refusal(tmp_path / "d.csv", test_file)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prompt,chosen,rejected\na,b,c\na,b\n", "line 3: 2 values under a header of 3: put texts in quotes"),
        ('prompt,chosen,rejected\n"a\nb",c,d\na,b,c,d\n', "line 4: 4 values under a header of 3"),
        ('prompt,chosen,rejected\na,b,c\na,"b,c\n', "line 3: unexpected end of data; put quotes around"),
        ('prompt,chosen,rejected\na,"b" x,c\n', "line 2: ',' expected after '\"'; put quotes"),
        ("prompt;chosen;rejected\na;b;c\n", "the header has one column, 'prompt;chosen;rejected': separate by a comma"),
        ("prompt,chosen,chosen\na,b,c\n", "line 1: the header names 'chosen' twice: rename one"),
        ("prompt,chosen,rejected\n", "holds no usable pair (it is empty): name another file"),
        ("", "holds no usable pair (it is empty)"),
        ("prompt,chosen,rejected,score_chosen\na,b,c,high\n", "line 2: 'score_chosen' must be a finite number"),
        ("prompt,chosen,rejected,score_chosen\na,b,c,nan\n", "line 2: 'score_chosen' must be a finite number, not nan"),
        ("prompt,completion,label\na,b,True\n", "line 2: this is KTO's unpaired layout"),
    ],
)
def test_bad_csv_is_named_by_line(text: str, sentence: str, tmp_path: Path, test_file: Path) -> None:
    (tmp_path / "a.csv").write_text(text, newline="")
    message = refusal(tmp_path / "a.csv", test_file)
    assert str(tmp_path / "a.csv") in message and sentence in message


def test_what_save_to_disk_wrote(tmp_path: Path, test_file: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows, test = [row(i, score_chosen=2.0, score_rejected=1.0) for i in range(5)], [row(f"test {i}") for i in range(5)]
    plain = read(lines(tmp_path / "a.jsonl", rows), test_file)
    Dataset.from_list(rows).save_to_disk(tmp_path / "one", num_shards=2)
    both = DatasetDict({"train": Dataset.from_list(rows), "test_prefs": Dataset.from_list(test)})
    both.save_to_disk(tmp_path / "both")
    for source in (tmp_path / "one", f"{tmp_path / 'both'}:train"):
        saved = read(source, test_file)
        assert (saved.parts, saved.counts) == (plain.parts, plain.counts)
    pair = read(f"{tmp_path / 'both'}:train", f"{tmp_path / 'both'}:test_prefs")
    assert [r["prompt"] for r in pair.parts["eval"]] == [r["prompt"] for r in test[:2]]
    assert pair.identity["train"] != pair.identity["test"]
    moved = tmp_path / "moved"
    (tmp_path / "one").rename(moved)
    assert locate_pair_source("train", str(moved), None).identity() == saved_identity(tmp_path, rows)
    assert "both holds the splits train, test_prefs: name one, as in both:train" in refusal(
        tmp_path / "both", test_file
    )
    assert "both holds the splits train, test_prefs: name one" in refusal(f"{tmp_path / 'both'}:dev", test_file)
    assert "holds one data set without splits: leave out :train" in refusal(f"{moved}:train", test_file)
    next(moved.glob("*.arrow")).unlink()
    assert "moved lacks its file data-0000" in refusal(moved, test_file)
    (moved / "state.json").write_text("{}")
    assert "moved cannot be read as a data set by save_to_disk" in refusal(moved, test_file)


def saved_identity(folder: Path, rows: list[Row]) -> dict[str, str]:
    """Of the same rows, saved again: it depends on the content, not on fingerprints or places."""
    from datasets import Dataset

    Dataset.from_list(rows).save_to_disk(folder / "again", num_shards=2)
    return locate_pair_source("train", str(folder / "again"), None).identity()


def test_a_folder_of_shards(tmp_path: Path, test_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset

    rows = [row(i) for i in range(6)]
    plain = read(lines(tmp_path / "a.jsonl", rows), test_file).parts
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    for i in range(3):
        Dataset.from_list(rows[2 * i : 2 * i + 2]).to_parquet(hub / f"train-{i:05}-of-00003.parquet")
        lines(tmp_path / "parts" / f"part-{i:05}.jsonl", rows[2 * i : 2 * i + 2])
    Dataset.from_list([row("x")]).to_parquet(hub / "test-00000-of-00001.parquet")
    (tmp_path / "parts" / "README.md").write_text("No rows.")
    assert read(f"{tmp_path / 'hub'}:train", test_file).parts == plain == read(tmp_path / "parts", test_file).parts
    monkeypatch.chdir(tmp_path)
    assert read("hub:train", "test.jsonl").parts == plain
    assert "hub holds the splits test, train: name one, as in hub:test" in refusal("hub", test_file)
    lines(tmp_path / "parts" / "part-00003.jsonl", [row(7), {"prompt": "x"}])
    assert "parts, part-00003.jsonl, line 2: the key 'chosen' is missing" in refusal(tmp_path / "parts", test_file)
    write_csv(tmp_path / "parts" / "part-00003.csv", [row(9)])
    assert "parts holds rows as .csv and as .jsonl: keep one kind" in refusal(tmp_path / "parts", test_file)
    (hub / "train-00001-of-00003.parquet").unlink()
    assert "hub holds 2 of 3 shards" in refusal("hub:train", test_file)
    (tmp_path / "empty").mkdir()
    assert "empty holds no data set by save_to_disk and no file of rows" in refusal(tmp_path / "empty", test_file)
    assert "data.train: there is no file none:train" in refusal("none:train", test_file)


def test_one_file_for_both_parts(tmp_path: Path, test_file: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(test_file.read_bytes())
    for train in (test_file, copy):
        message = refusal(train, test_file)
        assert message.startswith("data.train and data.test hold the same rows") and "head -n -200" in message
        assert "lower one" not in message
    hub = f"org/name@{'0' * 40}:train"
    assert "name another file or split" in refusal(hub, hub)


def test_all_rows_are_evaluation_prompts(tmp_path: Path, test_file: Path) -> None:
    """The same rows in another order or form, and other answers to the same prompts."""
    rows = [row(f"of the test {i}") for i in range(6)]
    shuffled, asked = lines(tmp_path / "a.jsonl", rows[::-1]), [r | {"chosen": "other"} for r in rows[:4]]
    message = refusal(shuffled, test_file)
    assert "data.train: all 6 usable rows ask a prompt of data.test (6 rows of the test file): name another" in message
    message = refusal(write_csv(tmp_path / "b.csv", [*asked, rows[5]]), test_file)
    assert "all 5 usable rows ask a prompt of data.test (1 rows of the test file, 4 evaluation prompts)" in message


def test_rows_of_the_test_file_are_counted_apart(tmp_path: Path, test_file: Path) -> None:
    test = [row(f"of the test {i}") for i in range(6)]
    swapped = test[1] | {"chosen": test[1]["rejected"], "rejected": test[1]["chosen"]}
    train = [*[row(i) for i in range(4)], test[0], swapped, test[2] | {"chosen": "another"}]
    counts = read(lines(tmp_path / "a.jsonl", train), test_file).counts["train"]
    assert counts["left_out"] == {"rows of the test file": 2, "evaluation prompts": 1}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"train_prompts": 9}, "data.train_prompts asks for 9 pairs beside data.tune_prompts, 4 are left"),
        ({"eval_prompts": 6}, "6 and 0 are left after cleaning (data.test has 6 distinct prompts): lower one"),
        ({"tune_prompts": 5}, "5 and 0 are left after cleaning (data.train has 5 distinct prompts): lower one"),
    ],
)
def test_the_sizes_of_the_parts(more: Row, sentence: str, tmp_path: Path, test_file: Path) -> None:
    train = [*[row(i) for i in range(5)], row(0), row("of the test 1"), row(8, chosen="")]
    message = refusal(lines(tmp_path / "a.jsonl", train), test_file, **more)
    assert sentence in message
    assert "left out of 8 train rows 1 duplicates, 1 empty answers, 1 rows of the test file" in message


def test_one_prompt_alone_cannot_be_divided(tmp_path: Path) -> None:
    one = lines(tmp_path / "one.jsonl", [row("same", chosen=f"good {i}") for i in range(5)])
    many = lines(tmp_path / "many.jsonl", [row(i) for i in range(5)])
    for train, test, name in ((many, one, "test"), (one, many, "train")):
        message = refusal(train, test)
        assert f"data.{name} has 1 distinct prompts): two distinct prompts are needed, so name another file" in message


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], "1 equal answers): check that 'chosen' and 'rejected' are"),
        ([{"prompt": "a", "chosen": "b", "rejected": ""}], "1 empty answers): check that 'chosen' and 'rejected' hold"),
        ([{"chosen": "Yes", "rejected": "No"}], "1 no shared prompt): add a 'prompt'"),
    ],
)
def test_a_file_without_a_pair(rows: list[Row], sentence: str, tmp_path: Path, test_file: Path) -> None:
    assert sentence in refusal(lines(tmp_path / "a.jsonl", rows), test_file)


def test_the_page_shows_every_count(tmp_path: Path) -> None:
    train = [row(i, chosen=f"Question {i}, please? yes", rejected=f"Question {i}, please? no") for i in range(3)]
    train = [r | {"system": "Be brief.", "source": "x", "score_chosen": 1, "score_rejected": 2} for r in train]
    test = [row(f"of the test {i}", topic="y") for i in range(4)]
    test += [test[0] | {"chosen": test[0]["rejected"], "rejected": test[0]["chosen"]}]
    files = read(lines(tmp_path / "a.jsonl", train), lines(tmp_path / "b.jsonl", test))
    parts = {"train": {"pairs": 2}, "heldout": {"pairs": 2}, "tune": {"prompts": 1}, "eval": {"prompts": 2}}
    data = {"files": files.counts, "source": files.identity} | {k: v | {"left_out": {}} for k, v in parts.items()}
    page = data_paragraph(data)
    assert (
        "3 rows, none left out. Kept and noted: 3 repeat the prompt in both answers (taken once), 3 score the rejected "
        "answer higher, 3 take their system turn from a column of its own. Columns not used: `source`." in page
    )
    assert "5 rows, none left out. Kept and noted: 2 are there in both orders. Columns not used: `topic`." in page
    assert files.parts["train"][0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Question 0, please?"},
    ]
    for counts in data["files"].values():  # results of earlier versions
        del counts["columns_not_used"]
    assert "Columns" not in data_paragraph(data)


def case(*parts: str) -> ImportedPairs:
    folder = cases(*parts)
    return read(folder / "train.jsonl", folder / "test.jsonl")


def test_cases_of_repeated_prompts_and_system_columns() -> None:
    repeated = case("07-prompt-repeated", "dup-prompt-list")
    assert repeated.counts["train"]["kept"] == {"repeat the prompt in both answers (taken once)": 24}
    first = repeated.parts["train"][0]
    assert first["messages"] == [{"role": "user", "content": "Question 0: name use 0 of oak."}]
    assert first["chosen"] == "Use oak for job 1, gently."
    turns = case("08-columns-dropped", "system-column")
    assert turns.counts["test"]["kept"] == {
        "take their system turn from a column of its own": turns.counts["test"]["rows"]
    }
    assert turns.parts["eval"][0]["messages"][0] == {"role": "system", "content": "Answer in one word."}


def test_the_case_of_tools_is_refused_by_line() -> None:
    with pytest.raises(UserError, match="test.jsonl, line 1: the column 'tools' changes what the row means"):
        case("08-columns-dropped", "tools-column")
