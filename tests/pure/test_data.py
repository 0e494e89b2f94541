"""Preference pairs that a user brings: layouts against TRL's functions, cleaning by counts, bad data by line."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import golden

from harness.errors import UserError
from harness.pairs.imported import ImportedPairs, count_benchmark_overlaps, imported_pairs
from harness.pairs.layouts import READERS, PreferencePair, Unusable, detect_layout, extract_prompt, parse_transcript
from harness.pairs.overlap import find_overlap
from harness.pairs.pair_source import PairSource, locate_pair_source
from harness.pairs.usable import UsablePairs
from harness.recipe.recipe import PairsSpec
from harness.store import user_files as files
from harness.store.settings import DATA_DIR
from harness.store.user_files import Malformed

ASKED, YES, NO = {"role": "user", "content": "Why?"}, "Because.", "No idea."
WELL, ILL = {"role": "assistant", "content": YES}, {"role": "assistant", "content": NO}
SAID = "\n\nHuman: Why?\n\nAssistant:"
SAME = PreferencePair([ASKED], YES, NO)


def parse(row: dict[str, Any], label: Any = "better") -> PreferencePair:
    return READERS[detect_layout(row)](row, label)


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        ("trl", {"prompt": "Why?", "chosen": YES, "rejected": NO}),
        ("trl", {"prompt": [ASKED], "chosen": [WELL], "rejected": [ILL]}),
        ("trl", {"chosen": [ASKED, WELL], "rejected": [ASKED, ILL]}),
        ("trl", {"prompt": "Why?", "chosen": [WELL], "rejected": [ILL]}),
        ("ultrafeedback", {"prompt": "Why?", "chosen": [ASKED, WELL], "rejected": [ASKED, ILL]}),
        (
            "hh-rlhf",
            {"chosen": f"\n\nHuman: Why?\n\nAssistant: {YES}", "rejected": f"\n\nHuman: Why?\n\nAssistant: {NO}"},
        ),
        (
            "pku-saferlhf",
            {"prompt": "Why?", "response_0": NO, "response_1": YES, "better_response_id": 1, "safer_response_id": 0},
        ),
    ],
)
def test_one_preference_in_every_layout(layout: str, row: dict[str, Any]) -> None:
    assert detect_layout(row) == layout
    assert parse(row) == SAME


def test_scores_the_safer_response_and_long_conversations() -> None:
    scored = parse({"chosen": [ASKED, WELL], "rejected": [ASKED, ILL], "score_chosen": 8, "score_rejected": 2.5})
    assert (scored.chosen_score, scored.rejected_score) == (8.0, 2.5)
    pku = {"prompt": "Why?", "response_0": NO, "response_1": YES, "better_response_id": 1, "safer_response_id": 0}
    assert parse(pku, "safer") == PreferencePair([ASKED], NO, YES)
    for number, better in ((0.0, NO), (1.0, YES)):  # as pandas writes a column that lacks a value somewhere
        assert parse(pku | {"better_response_id": number}).chosen == better
    talk = "\n\nHuman: Hi\n\nAssistant: Hello\nyou: there\n\nHuman: Why?\n\nAssistant:"
    pair = parse({"chosen": f"{talk} {YES}", "rejected": f"{talk} {NO}"})
    assert [m["role"] for m in pair.prompt] == ["user", "assistant", "user"]
    assert pair.prompt[1]["content"] == "Hello\nyou: there"
    assert (pair.chosen, pair.user_text()) == (YES, "Hi\nWhy?")
    assert parse_transcript("Human: a\n\nAssistant: ")[1]["content"] == ""


def test_an_implicit_prompt_is_cut_as_trl_cuts_it() -> None:
    """Random strings with a common beginning; TRL's own function is the reference wherever it finds a prompt."""
    from trl import extract_prompt as reference

    draw = random.Random(0)
    compared = 0
    for _ in range(2000):
        start = "".join(draw.choices("ab ", k=draw.randint(1, 6)))
        chosen, rejected = (start + "".join(draw.choices("ab ", k=draw.randint(0, 4))) for _ in range(2))
        expected = reference({"chosen": chosen, "rejected": rejected})
        if chosen == rejected or not expected["prompt"]:
            with pytest.raises(Unusable):
                extract_prompt(chosen, rejected)
            continue
        try:
            assert extract_prompt(chosen, rejected) == (expected["prompt"], expected["chosen"], expected["rejected"])
            compared += 1
        except Unusable:  # TRL reads chosen[-1] where nothing at all is shared
            assert chosen[0] != rejected[0] or (chosen[:1] == " ") or min(len(chosen), len(rejected)) == 1
    assert compared > 1000


def test_conversations_are_split_as_trl_splits_them_on_golden_rows() -> None:
    from trl.data_utils import maybe_extract_prompt

    rows = files.read_user_rows(golden("preference", "ultrafeedback_binarized_train_prefs_500.jsonl"))
    usable = 0
    for row in rows:
        try:
            ours = parse(row)
        except Unusable:
            continue
        theirs = maybe_extract_prompt(row)
        assert theirs["prompt"] == ours.prompt
        assert [theirs[s][0]["content"] for s in ("chosen", "rejected")] == [ours.chosen, ours.rejected]
        usable += 1
    assert usable == 497


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"chosen": YES}, "no layout is known with the keys chosen"),
        (
            {"prompt": "Why?", "chosen": YES, "rejected": 3},
            "'rejected' must be a string or a list of messages",
        ),
        ({"prompt": "Why?", "chosen": YES, "rejected": [ILL]}, "must be of one kind"),
        ({"prompt": [ASKED], "chosen": YES, "rejected": NO}, "must be lists too"),
        ({"prompt": 4, "chosen": YES, "rejected": NO}, "'prompt' must be a string or a list"),
        ({"chosen": ["x"], "rejected": [ILL]}, "'chosen', message 0: an object with a 'role'"),
        ({"chosen": [ASKED, {"role": "assistant", "content": None}], "rejected": [ASKED, ILL]}, "message 1: an object"),
        ({"chosen": [{"role": "bot", "content": "x"}], "rejected": [ILL]}, "the role 'bot' is none of system"),
        ({"chosen": [ASKED, WELL], "rejected": [ASKED, ILL], "score_chosen": "8"}, "'score_chosen' must be a finite"),
        ({"prompt": "Why?", "chosen": YES, "rejected": NO, "score_rejected": float("nan")}, "finite number, not nan"),
        ({"prompt": "Why?", "response_0": NO, "response_1": YES, "better_response_id": 2}, "must be 0 or 1, not 2"),
        ({"prompt": "Why?", "response_0": NO, "response_1": YES, "better_response_id": 0.5}, "must be 0 or 1, not 0.5"),
        ({"prompt": "Why?", "response_0": NO, "response_1": YES, "better_response_id": "1"}, "must be 0 or 1, not '1'"),
        ({"prompt": "Why?", "response_0": NO, "response_1": YES, "better_response_id": True}, "0 or 1, not True"),
        ({"prompt": "Why?", "response_0": NO, "response_1": YES}, "'better_response_id' is missing"),
        (
            {"prompt": "Why?", "chosen": YES, "rejected": NO, "score_chosen": 10**400},
            "must be a finite number, not 1000",
        ),
        ({"instruction": "Why?", "chosen": YES, "rejected": NO}, "there is 'instruction' but no 'prompt'"),
        ({"prompt": "Why?\ud800", "chosen": YES, "rejected": NO}, "half of a surrogate pair"),
    ],
)
def test_malformed_rows(row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Malformed, match=sentence.replace("(", "\\(")):
        parse(row)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Why?", "chosen": YES, "rejected": f" {YES}\n"}, "equal answers"),
        ({"chosen": [ASKED, WELL], "rejected": [ASKED, WELL]}, "equal answers"),
        ({"chosen": "Why? Yes", "rejected": "Why? Yes"}, "equal answers"),
        ({"prompt": "Why?", "chosen": YES, "rejected": " \n"}, "empty answers"),
        ({"chosen": [], "rejected": [ASKED, ILL]}, "empty answers"),
        ({"prompt": " ", "chosen": YES, "rejected": NO}, "no shared prompt"),
        ({"chosen": [WELL], "rejected": [ILL]}, "no shared prompt"),
        ({"chosen": [ASKED, WELL], "rejected": [{"role": "user", "content": "Who?"}, ILL]}, "no shared prompt"),
        ({"chosen": [ASKED, WELL], "rejected": [ASKED, {"role": "user", "content": "x"}]}, "no shared prompt"),
        ({"chosen": "Yes", "rejected": "No"}, "no shared prompt"),
    ],
)
def test_rows_without_a_preference_are_counted(row: dict[str, Any], why: str) -> None:
    with pytest.raises(Unusable, match=why):
        parse(row)


def spec(train: Path, test: Path, **more: Any) -> PairsSpec:
    sizes = {"tune_prompts": 2, "eval_prompts": 2, "heldout_prompts": 2}
    return PairsSpec.model_validate({"task": "preferences", "train": str(train), "test": str(test)} | sizes | more)


def row(number: Any, **more: Any) -> dict[str, Any]:
    return {"prompt": f"Question {number}?", "chosen": f"good {number}", "rejected": f"bad {number}"} | more


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    return lines(tmp_path / "test.jsonl", [row(f"of the test {i}") for i in range(6)])


LONG = " ".join(f"word{i}" for i in range(40))


def test_cleaning_counts_what_it_leaves_out(tmp_path: Path) -> None:
    test = [row(f"of the test {i}") for i in range(5)] + [row("long", prompt=LONG)]
    train = [
        *[row(i) for i in range(6)],
        row(0),  # a duplicate
        row(1, chosen="better still"),  # the same prompt with another answer is another pair
        row("x", chosen="", id="a"),
        row("y", chosen="bad y", id="a"),
        row("z", id="b"),
        row("w", id="b"),
        row("t", prompt="  question OF the test: 3 "),
        row("n", prompt=LONG.replace("word3 ", "another ")),
        row("s", prompt=" ".join(LONG.split()[:14]) + " " + LONG.replace("word", "other")),
    ]
    cleaned = imported_pairs(spec(lines(tmp_path / "a.jsonl", train), lines(tmp_path / "b.jsonl", test)))
    assert cleaned.counts["train"] == {
        "format": "trl",
        "rows": 15,
        "left_out": {
            "duplicates": 1,
            "empty answers": 1,
            "equal answers": 1,
            "evaluation prompts": 1,
            "nearly evaluation prompts": 1,
        },
        "kept": {"repeat an id and get one of their own": 1, "share 13 words with an evaluation prompt": 1},
        "columns_not_used": [],
    }
    assert cleaned.counts["test"] == {"format": "trl", "rows": 6, "left_out": {}, "kept": {}, "columns_not_used": []}
    assert len(cleaned.parts["train"]) + len(cleaned.parts["tune"]) == 15 - 5


def test_parts_share_no_prompt(tmp_path: Path, test_file: Path) -> None:
    train = [row(i // 2, chosen=f"good {i}") for i in range(20)]
    pairs = imported_pairs(spec(lines(tmp_path / "a.jsonl", train), test_file, train_prompts=7, tune_prompts=3))
    prompts = {part: {r["prompt"] for r in rows} for part, rows in pairs.parts.items()}
    assert {part: len(rows) for part, rows in pairs.parts.items()} == {"train": 7, "tune": 3, "eval": 2, "heldout": 2}
    assert len(prompts["tune"]) == 3
    assert not prompts["train"] & prompts["tune"] and not prompts["eval"] & prompts["heldout"]
    assert [r["chosen"] for r in pairs.parts["train"]] == [f"good {i}" for i in range(7)]
    assert len({r["id"] for rows in pairs.parts.values() for r in rows}) == 14


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"train_prompts": 9}, "data.train_prompts asks for 9 pairs beside data.tune_prompts, 8 are left"),
        ({"tune_prompts": 11}, "data.tune_prompts asks for 11 distinct prompts"),
        ({"eval_prompts": 5}, "data.heldout_prompts for 2 rows with others, 5 and 1 are left"),
        ({"train": "none.jsonl"}, "data.train: there is no file none.jsonl"),
        ({"test": "org/name@main:train"}, "data.test: org/name@main:train needs a commit of 40 hex digits"),
        ({"format": "pku-saferlhf"}, "test.jsonl, line 1: the key 'better_response_id' is missing"),
    ],
)
def test_too_few_rows_and_wrong_sources(tmp_path: Path, test_file: Path, more: dict[str, Any], sentence: str) -> None:
    train = lines(tmp_path / "a.jsonl", [row(i) for i in range(10)])
    with pytest.raises(UserError) as caught:
        imported_pairs(spec(train, test_file).model_copy(update=more))
    assert sentence in str(caught.value)


BAD: dict[str, tuple[bytes, str]] = {
    "no JSON": (b'{"prompt": "a", "chosen"', "line 3: Expecting ':' delimiter"),
    "no object": (b"[1]", "line 3: an object is expected, not list"),
    "a missing key": (b'{"prompt": "a", "chosen": "b"}', "line 3: the key 'rejected' is missing"),
    "a wrong type": (b'{"prompt": "a", "chosen": {"x": 1}, "rejected": "c"}', "line 3: 'chosen' must be a string or a"),
    "not UTF-8": (b'{"prompt": "\xff", "chosen": "b", "rejected": "c"}', "line 3, is not UTF-8 (byte "),
    "a huge number": (b'{"score": ' + b"9" * 5000 + b"}", "line 3: Exceeds the limit"),
    "nesting": (b"[" * 100_000, "line 3: nested too deeply"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lines_are_named(name: str, tmp_path: Path, test_file: Path) -> None:
    bad, sentence = BAD[name]
    path = lines(tmp_path / "a.jsonl", [row(i) for i in range(2)])
    path.write_bytes(path.read_bytes() + bad + b"\n" + json.dumps(row(4)).encode())
    with pytest.raises(UserError) as caught:
        imported_pairs(spec(path, test_file))
    assert f"{path}, {sentence}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_line_separators_and_huge_lines(tmp_path: Path, test_file: Path) -> None:
    """U+2028 stands inside a line; a line of 10 MB is read, counted and left out."""
    train = [row(i, prompt=f"One\u2028two {i}\x85three") for i in range(5)] + [row("big", chosen="x" * 10_000_000)]
    pairs = imported_pairs(spec(lines(tmp_path / "a.jsonl", train), test_file))
    assert pairs.counts["train"]["left_out"] == {"over a million characters": 1}
    assert pairs.parts["train"][0]["prompt"] == "One\u2028two 0\x85three"


def test_json_parquet_and_gzip_hold_the_same(tmp_path: Path, test_file: Path) -> None:
    from datasets import Dataset

    rows = [
        row(i, chosen=[ASKED | {"content": str(i)}, WELL], rejected=[ASKED | {"content": str(i)}, ILL])
        for i in range(5)
    ]
    plain = imported_pairs(spec(lines(tmp_path / "a.jsonl", rows), test_file)).parts
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    for name in ("a.json", "a.jsonl.gz", "a.parquet"):
        assert imported_pairs(spec(tmp_path / name, test_file)).parts == plain, name
    for name, content in {"b.jsonl.gz": b"no gzip", "b.parquet": b"no parquet", "c.jsonl": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            imported_pairs(spec(tmp_path / name, test_file))
    import pyarrow
    from pyarrow import parquet

    texts = {key: [f"{key} {i}".encode() for i in range(3)] for key in ("prompt", "chosen", "rejected")}
    texts["chosen"][1] += b"\xff"
    table = pyarrow.table({key: pyarrow.array(values).view(pyarrow.string()) for key, values in texts.items()})
    parquet.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(UserError, match="e.parquet, row 2, is not UTF-8: convert it"):
        imported_pairs(spec(tmp_path / "e.parquet", test_file))
    Dataset.from_list([row(1), row(2) | {"chosen": None}]).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(UserError, match="d.parquet, row 2: 'chosen' must be a string or a list of messages, not None"):
        imported_pairs(spec(tmp_path / "d.parquet", test_file))


def test_places_are_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("data", "recipe", "here"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.jsonl").write_text(place)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv(DATA_DIR, raising=False)
    assert files.read_text_file(locate_pair_source("train", "a.jsonl", None).path or Path()) == "here"
    assert files.read_text_file(locate_pair_source("train", "a.jsonl", tmp_path / "recipe").path or Path()) == "recipe"
    monkeypatch.setenv(DATA_DIR, str(tmp_path / "data"))
    assert files.read_text_file(locate_pair_source("train", "a.jsonl", tmp_path / "recipe").path or Path()) == "data"
    moved = PairSource("other", tmp_path / "here" / "a.jsonl")
    assert moved.identity() == locate_pair_source("train", str(tmp_path / "here" / "a.jsonl"), None).identity()


def test_a_split_of_the_hub_is_named_by_its_commit() -> None:
    name = f"org/name@{'0' * 40}:train"
    assert locate_pair_source("train", name, None).identity() == {"hub": name}
    with pytest.raises(UserError, match=f"The data set org/name@{'0' * 12}:train cannot be read"):
        list(locate_pair_source("train", name, None).rows())


def test_overlap_by_brute_force() -> None:
    """Texts of few words over a small vocabulary: runs of 13 words compared one by one."""
    draw = random.Random(1)
    base = [[str(draw.randint(0, 9)) for _ in range(40)] for _ in range(4)]
    texts = []
    for _ in range(200):
        source, a, n = draw.choice(base), draw.randint(0, 30), draw.randint(5, 40)
        texts.append(" ".join([*source[a : a + n], *[f"x{draw.randint(0, 99)}" for _ in range(draw.randint(0, 20))]]))
    evaluation = [" ".join(words) for words in base]
    overlap = find_overlap(texts, evaluation)

    def grams(text: str) -> list[str]:
        words = text.split()
        return sorted({" ".join(words[i : i + 13]) for i in range(len(words) - 12)})

    for i, text in enumerate(texts):
        shares = [(len(set(grams(text)) & set(grams(e))), min(len(grams(text)), len(grams(e)))) for e in evaluation]
        near = any(common and 2 * common >= size for common, size in shares)
        assert (i in overlap.equal) == (text in evaluation)
        assert (i in overlap.near) == (near and text not in evaluation)
        assert (i in overlap.shared) == (any(c for c, _ in shares) and not near and text not in evaluation)
    assert overlap.near and overlap.shared


def test_text_without_spaces_has_runs_of_characters() -> None:
    """Chinese and Japanese: 13 characters for 13 words; words of other scripts stay whole."""
    questions = ["".join(chr(0x4E00 + 7 * i + 100 * n) for i in range(40)) for n in range(2)]
    questions.append("".join(chr(0x3042 + i) for i in range(40)))
    texts = [
        questions[0][:20] + "的" + questions[0][21:],  # 15 of 28 runs hold no changed character
        f"{questions[1][:13]}，{'啊' * 40}",  # one run
        f"{questions[2]}。",  # equal but for punctuation
        questions[1][:12],  # too short for a run
        "one two three",
    ]
    overlap = find_overlap(texts, questions)
    assert (overlap.equal, overlap.near, overlap.shared) == ([2], [0], [1])


def test_golden_pairs_are_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 of the 1000 golden pairs have equal answers (their README says so)."""
    train, test = (golden("preference", f"ultrafeedback_binarized_{n}_prefs_500.jsonl") for n in ("train", "test"))
    cleaned: ImportedPairs = imported_pairs(spec(train, test, tune_prompts=16, eval_prompts=100, heldout_prompts=100))
    assert sum(cleaned.counts[name]["left_out"]["equal answers"] for name in ("train", "test")) == 12
    left = 500 - sum(cleaned.counts["train"]["left_out"].values())
    assert len(cleaned.parts["train"]) + len(cleaned.parts["tune"]) == left
    planted = [m["prompt"] for m in cleaned.parts["train"][:3]]
    report = count_benchmark_overlaps(cleaned.parts["train"], {"planted": planted, "other": ["Nothing of the kind"]})
    assert report["planted"]["equal"] == 3 and report["other"] == {"prompts": 1, "equal": 0, "near": 0, "shared": 0}


def test_a_golden_file_without_prompts_is_refused() -> None:
    source = PairSource("short", golden("preference", "short_synthetic_1100.jsonl"))
    with pytest.raises(UserError, match="line 1: there is 'instruction' but no 'prompt'"):
        list(UsablePairs(source, spec(Path("a"), Path("b"))))
