"""Where the prompt of a row is: under another name, absent in some rows, before a prefilled answer, in a transcript."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.errors import UserError
from harness.judge.card_pairs import read_pairs
from harness.pairs.file_reader import FileReader
from harness.pairs.imported import imported_pairs
from harness.pairs.layouts import LAST_TURN, NO_PROMPT, READERS, TRANSCRIPT, PreferencePair, Unusable, detect_layout
from harness.pairs.pair_source import PairSource
from harness.pairs.usable import UsablePairs
from harness.recipe.recipe import PairsSpec
from harness.store.user_files import Malformed

ASK, YES, NO = "What is 2 + 2?", "The answer is 4.", "The answer is 5."
ANSWERS = {"chosen": YES, "rejected": NO}
Row = dict[str, Any]


def user(text: str = ASK) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spec(layout: str = "auto", train: Any = "a", test: Any = "b") -> PairsSpec:
    sizes = {"tune_prompts": 1, "eval_prompts": 1}
    files = {"train": str(train), "test": str(test)}
    return PairsSpec.model_validate({"task": "preferences", "format": layout} | files | sizes)


class Usable(NamedTuple):
    pairs: list[PreferencePair]
    counts: dict[str, Any]


def usable(folder: Path, rows: list[Row], layout: str = "auto") -> Usable:
    pairs = UsablePairs(PairSource("a", lines(folder / "a.jsonl", rows)), spec(layout))
    return Usable([each.pair for each in pairs], pairs.counts())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context", ASK),
        ("context", "Why?"),
        ("user_prompt", ASK),
        ("Prompt", ASK),
        ("trajectory", [{"from": "user", "value": "Why?"}]),
        ("conversation", [user()]),
        ("talk", [user("Why?")]),
        ("ask", ASK),
        ("post", {"title": "A", "text": ASK}),
        ("turns", ["a", ASK]),
        ("source_text", "天空是蓝色的"),
    ],
)
def test_a_prompt_under_another_name_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    row = ANSWERS | {"source": "x", name: value}
    with pytest.raises(Malformed, match=f"there is '{name}' but no 'prompt': rename it to 'prompt'.*data.format: trl"):
        detect_layout(row)
    with pytest.raises(UserError, match=f"a.jsonl, line 2: there is '{name}' but no 'prompt'"):
        usable(tmp_path, [ANSWERS, row])
    assert FileReader([row]).read(row | {"prompt": ASK, name: ""}).prompt == [user()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source", "a long name of a source"),
        ("prompt_id", "5d1c 77 ab"),
        ("Dataset", "three words here"),
        ("chosen_model", "a model of ours"),
        ("original_chosen", YES),
        ("rejected-reasoning", "It is not so."),
        ("models", ["the first model", "the second model"]),
        ("categories", ["open question answering"]),
        ("language", "English as spoken"),
        ("created_at", "2024-01-01 10:00:00 UTC"),
        ("metadata", {"text": ASK}),
        ("row", "two words"),
        ("flag", True),
        ("n", 3),
        ("system", "Be brief and kind."),
        ("question", "the answer is:"),  # what both answers begin with
        ("ask", ""),
    ],
)
def test_other_columns_do_not_hinder_an_implicit_prompt(name: str, value: Any) -> None:
    pair = FileReader([ANSWERS]).read(ANSWERS | {name: value})
    assert (pair.prompt[-1], pair.chosen, pair.rejected) == (user("The answer is"), " 4.", " 5.")


def test_a_named_layout_and_lists_of_messages_need_no_prompt(tmp_path: Path) -> None:
    rows = [ANSWERS | {"ask": ASK}]
    assert usable(tmp_path, rows, "trl").counts["columns_not_used"] == ["ask"]
    whole = {"chosen": [user(), assistant(YES)], "rejected": [user(), assistant(NO)]}
    assert usable(tmp_path, [whole | {"messages": whole["chosen"], "talk": whole["chosen"]}]).pairs[0].chosen == YES


@pytest.mark.parametrize("empty", [{}, {"prompt": None}, {"prompt": ""}, {"prompt": " \n"}])
@pytest.mark.parametrize("layout", ["auto", "trl"])
@pytest.mark.parametrize("at", [0, 1])
def test_an_absent_prompt_in_a_file_with_prompts(empty: Row, layout: str, at: int, tmp_path: Path) -> None:
    rows = [{"prompt": ASK, **ANSWERS}]
    rows.insert(at, ANSWERS | empty)
    result = usable(tmp_path, rows, layout)
    assert [(pair.prompt, pair.chosen) for pair in result.pairs] == [([user()], YES)]
    assert result.counts["left_out"] == {NO_PROMPT: 1} and result.counts["format"] == "trl"
    card = read_pairs(tmp_path / "a.jsonl", 9)
    assert [pair.chosen for pair in card.pairs] == [YES] and card.without_preference == 1
    alone = usable(tmp_path, [ANSWERS | empty], layout).pairs[0]  # in a file without prompts it is implicit
    assert (alone.prompt, alone.chosen) == ([user("The answer is")], " 4.")


def test_judge_cards_take_an_instruction_for_a_prompt(tmp_path: Path) -> None:
    rows: list[Row] = [ANSWERS, {"instruction": ASK, **ANSWERS}, {"instruction": ASK, "input": 3, **ANSWERS}]
    card = read_pairs(lines(tmp_path / "a.jsonl", rows), 1)
    assert [pair.prompt for pair in card.pairs] == [ASK] and card.without_preference == 1
    with pytest.raises(UserError, match="line 3: 'input' must be a string, not int"):
        read_pairs(tmp_path / "a.jsonl", 2)
    with pytest.raises(UserError, match="line 1: 'input' must be a string, not int"):
        read_pairs(lines(tmp_path / "b.jsonl", rows[2:]), 2)


def test_absent_prompts_of_other_layouts() -> None:
    pku = {"response_0": YES, "response_1": NO, "better_response_id": 0}
    for row in (*[pku | {"prompt": empty} for empty in (None, "")], {"conversations": None} | ANSWERS):
        with pytest.raises(Unusable, match=NO_PROMPT):
            READERS[detect_layout(row)](row, "better")
    whole = {"chosen": [user(), assistant(YES)], "rejected": [user(), assistant(NO)]}
    talk = {side: f"\n\nHuman: {ASK}\n\nAssistant: {text}" for side, text in ANSWERS.items()}
    for row in (whole, talk):
        reader = FileReader([row | {"prompt": ASK}, row])
        for empty in ({}, {"prompt": None}, {"prompt": ""}):
            pair = reader.read(row | empty)
            assert (pair.prompt, pair.chosen, pair.rejected) == ([user()], YES, NO)


def parse(row: Row, layout: str = "auto") -> PreferencePair:
    return FileReader([row], layout).read(row)


def test_a_dialogue_as_one_answer_does_not_make_a_file_of_transcripts() -> None:
    dialogue = "Human: hi\n\nAssistant: hello"
    for answers in ((dialogue, "No."), ("No.", dialogue), ("Assistant: hi", dialogue)):
        row = {"prompt": "Write a dialogue", "chosen": answers[0], "rejected": answers[1]}
        pair = parse(row)
        assert (pair.prompt, pair.chosen, pair.rejected) == ([user("Write a dialogue")], *answers)
        assert pair.notes == ()
    both = {"chosen": f"\n\nHuman: {ASK}\n\nAssistant: {YES}", "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {NO}"}
    with pytest.raises(Malformed, match=r"a transcript must begin with .*: correct the row, or set data.format: trl"):
        parse(both | {"rejected": NO})


def test_transcripts_within_one_turn_of_the_user_are_counted() -> None:
    talk = f"\n\nHuman: {ASK}\n\nAssistant:"
    row = {"chosen": f"{talk} {YES}", "rejected": f"{talk} {NO}"}
    assert parse(row).notes == () and parse(row, "trl").notes == (TRANSCRIPT,)
    assert parse(ANSWERS | {"prompt": talk}, "trl").notes == (TRANSCRIPT,)
    lists = {side: [user(talk), assistant(text)] for side, text in ANSWERS.items()}
    assert parse(lists).notes == (TRANSCRIPT,)
    assert parse(ANSWERS | {"prompt": "Human: is that a good name?"}).notes == ()


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [user(), assistant("Sure, ")], "chosen": [assistant(YES)], "rejected": [assistant(NO)]},
        {"conversations": [user(), assistant("Sure, ")], "chosen": YES, "rejected": NO},
        {"prompt": f"\n\nHuman: {ASK}\n\nAssistant: Sure,", "chosen": f"Assistant: {YES}", "rejected": "Assistant: no"},
        {
            "prompt": [user(), {"role": "system", "content": "x"}],
            "chosen": [assistant(YES)],
            "rejected": [assistant("")],
        },
    ],
)
def test_a_prompt_that_does_not_end_with_the_user(row: Row, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=LAST_TURN):
        parse(row)
    with pytest.raises(UserError, match=rf"\(1 {LAST_TURN}\): write the beginning of the answer into 'chosen'"):
        usable(tmp_path, [row])


@pytest.mark.parametrize(("name", "text"), [("jsonl", ""), ("json", "[]"), ("csv", "prompt,chosen,rejected\n")])
def test_two_empty_files(name: str, text: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{part}.{name}" for part in ("train", "test")]
    for file in files:
        file.write_text(text)
    with pytest.raises(UserError, match=r"data.train and data.test are empty \(.*\): name other files"):
        imported_pairs(spec("auto", *files))
