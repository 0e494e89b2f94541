"""Rows of imported pairs: what changes their meaning, and prompts that stand in the answers once more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.answer.chat import Messages
from harness.pairs.layouts import (
    READERS,
    SYSTEM_USED,
    PreferencePair,
    Unusable,
    columns_not_used,
    detect_layout,
)
from harness.pairs.repeated_prompt import OTHER_PROMPT, REPEATED, SHORT_REPEATED, TWO_USER_TURNS
from harness.pairs.row_texts import is_absent
from harness.store.user_files import Malformed

ASK, YES, NO = "Why is the sky blue?", "Because of the air.", "No idea."
Row = dict[str, Any]


def user(text: str = ASK) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> Row:
    return {"role": "assistant", "content": text} | more


def system(text: str = "Be brief.") -> dict[str, str]:
    return {"role": "system", "content": text}


TEXTS: Row = {"prompt": ASK, "chosen": YES, "rejected": NO}
LISTS: Row = {"prompt": [user()], "chosen": [assistant(YES)], "rejected": [assistant(NO)]}
WHOLE: Row = {"chosen": [user(), assistant(YES)], "rejected": [user(), assistant(NO)]}
PKU: Row = {"prompt": ASK, "response_0": NO, "response_1": YES, "better_response_id": 1}
TALK = f"\n\nHuman: {ASK}\n\nAssistant:"
HH: Row = {"chosen": f"{TALK} {YES}", "rejected": f"{TALK} {NO}"}
SHAREGPT: Row = {
    "conversations": [{"from": "human", "value": ASK}],
    "chosen": {"from": "gpt", "value": YES},
    "rejected": {"from": "gpt", "value": NO},
}
OPENAI: Row = {
    "input": {"messages": [user()], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [assistant(YES)],
    "non_preferred_output": [assistant(NO)],
}
LAYOUTS = {"texts": TEXTS, "lists": LISTS, "whole": WHOLE, "pku": PKU, "hh": HH, "sharegpt": SHAREGPT, "openai": OPENAI}


def parse(row: Row) -> PreferencePair:
    return READERS[detect_layout(row)](row, "better")


def content(pair: PreferencePair) -> tuple[Messages, str, str]:
    return pair.prompt, pair.chosen, pair.rejected


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_plain_row_of_every_layout(name: str) -> None:
    pair = parse(LAYOUTS[name])
    assert content(pair) == ([user()], YES, NO) and pair.notes == ()


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_is_the_system_turn_in_every_layout(name: str, column: str) -> None:
    pair = parse(LAYOUTS[name] | {column: "Be brief."})
    assert content(pair) == ([system(), user()], YES, NO) and pair.notes == (SYSTEM_USED,)
    for empty in (None, "", " \n"):
        assert content(parse(LAYOUTS[name] | {column: empty})) == ([user()], YES, NO)


def test_a_system_column_beside_a_system_turn() -> None:
    lists = LISTS | {"prompt": [system(), user()]}
    assert parse(lists | {"system": "Be brief. "}).prompt == [system(), user()]
    for row, sentence in (
        (lists | {"system": "Be long."}, "two different system turns: keep one"),
        (TEXTS | {"system": "a", "system_prompt": "b"}, "'system' and 'system_prompt' hold different system turns"),
        (TEXTS | {"system": ["a"]}, "'system' must be a string, not list"),
    ):
        with pytest.raises(Malformed, match=sentence):
            parse(row)


MEANING: list[tuple[str, Any]] = [
    ("tools", [{"type": "function", "function": {"name": "look_up"}}]),
    ("tools", '[{"name": "look_up"}]'),
    ("functions", [{"name": "look_up"}]),
    ("images", ["cat.png"]),
    ("image", {"bytes": b"x", "path": None}),
    ("videos", ["a.mp4"]),
    ("audio", "a.wav"),
    ("documents", [{"title": "t", "text": "x"}]),
    ("chat_template_kwargs", {"enable_thinking": False}),
    ("history", [["Hi", "Hello"]]),
]


@pytest.mark.parametrize(("column", "value"), MEANING)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_column_that_changes_the_meaning_is_refused(name: str, column: str, value: Any) -> None:
    with pytest.raises(Malformed, match=f"the column '{column}' changes what the row means .* leave out the rows"):
        parse(LAYOUTS[name] | {column: value})


def test_the_tools_of_openais_input_are_refused_too() -> None:
    with pytest.raises(Malformed, match="the column 'tools'"):
        parse(OPENAI | {"input": {"messages": [user()], "tools": [{"type": "function"}]}})


@pytest.mark.parametrize("value", [None, "", [], {}, "[]", "null", [None], {"enable_thinking": None}, [{"a": []}]])
def test_an_empty_value_is_none(value: Any) -> None:
    assert is_absent(value)
    for column in dict(MEANING):
        assert content(parse(TEXTS | {column: value})) == ([user()], YES, NO)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"tool_calls": [{"name": "f"}]}, "'tool_calls' changes what the row means .* leave out rows with tool use"),
        ({"tool_call_id": "call_1"}, "'tool_call_id'"),
        ({"function_call": {"name": "f"}}, "'function_call'"),
        ({"reasoning_content": "Well."}, "'reasoning_content' .* write the reasoning into 'content'"),
        ({"thinking": "Hm."}, "'thinking'"),
        ({"name": "Ann"}, "'name' .* write the name into 'content'"),
        ({"weight": 0}, "'weight'"),
        ({"images": ["a.png"]}, "'images'"),
    ],
)
def test_a_key_of_a_message_that_changes_the_meaning_is_refused(more: Row, sentence: str) -> None:
    for row, where in (
        (WHOLE | {"chosen": [user(), assistant(YES, **more)]}, "'chosen', message 1"),
        (LISTS | {"prompt": [user() | more]}, "'prompt', message 0"),
        (SHAREGPT | {"rejected": {"from": "gpt", "value": NO} | more}, "'rejected', message 0"),
    ):
        with pytest.raises(Malformed, match=f"{where}: {sentence}"):
            parse(row)
    empty = dict.fromkeys(more) | ({"weight": 1} if "weight" in more else {})
    assert content(parse(LISTS | {"chosen": [assistant(YES, **empty)]})) == ([user()], YES, NO)


@pytest.mark.parametrize(
    ("role", "cure"),
    [
        ("tool", "leave out rows with tool use"),
        ("function", "leave out rows with tool use"),
        ("observation", "leave out rows with tool use"),
        ("developer", "write system for developer"),
        ("human", "write user for human"),
    ],
)
def test_other_roles_are_refused_with_a_cure(role: str, cure: str) -> None:
    with pytest.raises(Malformed, match=f"'prompt', message 0: the role '{role}' is none of .*: {cure}"):
        parse(LISTS | {"prompt": [{"role": role, "content": "x"}, user()]})


def test_content_in_parts() -> None:
    def parts(*texts: str) -> list[Row]:
        return [{"type": "text", "text": text} for text in texts]

    row = LISTS | {"prompt": [{"role": "user", "content": parts("Why is ", "the sky blue?")}]}
    assert content(parse(row | {"chosen": [assistant(YES) | {"content": parts(YES)}]})) == ([user()], YES, NO)
    image = [{"type": "image"}, *parts("What is it?")]
    for bad, kind in ((image, "image"), ([*parts("a"), {"type": "image_url", "image_url": "x"}], "image_url")):
        with pytest.raises(Malformed, match=f"holds a part of type '{kind}', and only text is read"):
            parse(LISTS | {"prompt": [{"role": "user", "content": bad}]})


def test_messages_written_as_a_text_are_refused() -> None:
    whole = WHOLE["chosen"]
    for text in (json.dumps(whole), str(whole), json.dumps([{"from": "human", "value": "x"}])):
        with pytest.raises(Malformed, match="'chosen' is a list of messages written as one text"):
            parse({"chosen": text, "rejected": text})
    assert parse(TEXTS | {"chosen": '[{"name": "Ann"}]'}).chosen == '[{"name": "Ann"}]'


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (WHOLE | {"prompt": [user()]}, [user()]),
        (WHOLE | {"prompt": ASK}, [user()]),
        (WHOLE | {"prompt": ASK, "score_chosen": 8.0}, [user()]),
        (WHOLE | {"prompt": [system(), user()]}, [system(), user()]),
        ({s: [system(), *WHOLE[s]] for s in ("chosen", "rejected")} | {"prompt": [user()]}, [system(), user()]),
        ({s: [system(), *WHOLE[s]] for s in ("chosen", "rejected")} | {"prompt": ASK}, [system(), user()]),
        ({s: [user(f"{ASK} "), WHOLE[s][1]] for s in ("chosen", "rejected")} | {"prompt": [user()]}, [user()]),
        (
            {
                "prompt": [user("Hi"), assistant("Hello"), user()],
                **{s: [user("Hi"), assistant("Hello"), user(), WHOLE[s][1]] for s in ("chosen", "rejected")},
            },
            [user("Hi"), assistant("Hello"), user()],
        ),
        ({"prompt": ASK, "chosen": f"{ASK} {YES}", "rejected": f"{ASK} {NO}"}, [user()]),
        ({"prompt": f"{ASK}\n", "chosen": f"\n{ASK}\n{YES}", "rejected": f"{ASK}\n\n{NO}"}, [user(f"{ASK}\n")]),
        ({"prompt": [user()], "chosen": [assistant(ASK + YES)], "rejected": [assistant(ASK + NO)]}, [user()]),
        ({"prompt": ASK, "chosen": [assistant(ASK + YES)], "rejected": [assistant(ASK + NO)]}, [user()]),
        (PKU | {"response_0": f"{ASK} {NO}", "response_1": f"{ASK} {YES}"}, [user()]),
        (HH | {"prompt": TALK}, [user()]),
        (HH | {"prompt": f"{TALK} "}, [user()]),
        (HH | {"prompt": ASK}, [user()]),
        (SHAREGPT | {s: [{"from": "human", "value": ASK}, SHAREGPT[s]] for s in ("chosen", "rejected")}, [user()]),
        (
            OPENAI | {"preferred_output": [user(), assistant(YES)], "non_preferred_output": [user(), assistant(NO)]},
            [user()],
        ),
    ],
)
def test_a_repeated_prompt_is_taken_once(row: Row, prompt: Messages) -> None:
    pair = parse(row)
    assert content(pair) == (prompt, YES, NO) and pair.notes == (REPEATED,)


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "notes"),
    [
        (ASK, f"{ASK} {YES}", NO, ()),  # one of them only
        (ASK, YES, f"{ASK} {NO}", ()),
        ("The", "The cat.", "The dog.", (SHORT_REPEATED,)),
        ("I", "I am.", "I was.", (SHORT_REPEATED,)),
        ("Say hi", "Say hi yourself!", "Say hi to whom?", (SHORT_REPEATED,)),
        ("天空", "天空很蓝", "天空很绿", (SHORT_REPEATED,)),
        ("Is this a cat", "Is this a category?", "Is this a cathedral?", ()),  # within a word
        ("Add 1 and 1", "Add 1 and 10", "Add 1 and 11", ()),
    ],
)
def test_an_answer_that_happens_to_begin_with_the_prompt_stays(
    prompt: str, chosen: str, rejected: str, notes: tuple[str, ...]
) -> None:
    for row in (
        {"prompt": prompt, "chosen": chosen, "rejected": rejected},
        {"prompt": [user(prompt)], "chosen": [assistant(chosen)], "rejected": [assistant(rejected)]},
        {"prompt": prompt, "response_0": rejected, "response_1": chosen, "better_response_id": 1},
    ):
        pair = parse(row)
        assert content(pair) == ([user(prompt)], chosen, rejected) and pair.notes == notes


def test_a_repeated_prompt_without_spaces_and_without_an_answer() -> None:
    ask = "天空为什么是蓝色的"
    assert content(parse({"prompt": ask, "chosen": f"{ask}因为空气", "rejected": f"{ask}不知道"}))[1:] == (
        "因为空气",
        "不知道",
    )
    with pytest.raises(Unusable, match="empty answers"):
        parse({"prompt": ASK, "chosen": ASK, "rejected": f"{ASK} {NO}"})
    with pytest.raises(Unusable, match="empty answers"):
        parse(LISTS | {"chosen": []})


def test_a_prompt_beside_conversations_of_another() -> None:
    other = parse(WHOLE | {"prompt": "Something else."})
    assert content(other) == ([user()], YES, NO) and other.notes == (OTHER_PROMPT,)
    two = parse(WHOLE | {"prompt": [user("Something else.")]})
    assert content(two) == ([user("Something else."), user()], YES, NO) and two.notes == (TWO_USER_TURNS,)
    follows = {s: [assistant("Hello"), *WHOLE[s]] for s in ("chosen", "rejected")}
    assert parse(follows | {"prompt": "Hi"}).prompt == [user("Hi"), assistant("Hello"), user()]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": TALK, "chosen": YES, "rejected": NO},
        {"prompt": f"Human: {ASK}", "chosen": f"Assistant: {YES}", "rejected": f"Assistant: {NO}"},
        {"prompt": TALK, "chosen": f" {YES}", "rejected": f" {NO}\n"},
    ],
)
def test_a_transcript_that_ends_where_the_answers_begin(row: Row) -> None:
    assert detect_layout(row) == "hh-rlhf"
    assert content(parse(row)) == ([user()], YES, NO)


def test_a_prompt_that_only_mentions_a_transcript_is_a_text() -> None:
    row = {"prompt": "Human: is that a good name?", "chosen": YES, "rejected": NO}
    assert detect_layout(row) == "trl" and parse(row).prompt == [user("Human: is that a good name?")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (TEXTS | {"id": 3, "score_chosen": 1.0, "score_rejected": 0.0}, set()),
        (TEXTS | {"source": "x", "margin": 1.0, "empty": None, "": 3}, {"source", "margin", "(no name)"}),
        (TEXTS | {"system": "x", "images": []}, set()),
        (WHOLE | {"prompt_id": "x", "messages": WHOLE["chosen"]}, {"prompt_id", "messages"}),
        (LISTS | {"chosen": [assistant(YES, model="m", id=None)]}, {"chosen[].model"}),
        (PKU | {"safer_response_id": 0, "is_response_0_safe": True}, {"safer_response_id", "is_response_0_safe"}),
        (OPENAI, {"input.parallel_tool_calls"}),
        (SHAREGPT | {"conversations": [{"from": "human", "value": ASK, "markdown": 1}]}, {"conversations[].markdown"}),
    ],
)
def test_columns_that_nothing_reads_are_listed(row: Row, expected: set[str]) -> None:
    assert columns_not_used(row, detect_layout(row), "better") == expected


def test_the_input_of_alpaca_rows() -> None:
    assert content(parse(TEXTS | {"input": ""})) == ([user()], YES, NO)
    assert content(parse(TEXTS | {"input": "the sky"})) == ([user()], YES, NO)
    with pytest.raises(Malformed, match="the column 'input' is not in the prompt: write it at the end of 'prompt'"):
        parse(TEXTS | {"input": "The sea."})
    with pytest.raises(
        Malformed, match="there is 'instruction' but no 'prompt': rename it to 'prompt', with 'input' at its end"
    ):
        parse({"instruction": ASK, "input": "", "chosen": YES, "rejected": NO})
    for name in ("question", "messages"):
        with pytest.raises(Malformed, match=f"there is '{name}' but no 'prompt'"):
            parse({name: [user()], "chosen": [assistant(YES)], "rejected": [assistant(NO)]})
