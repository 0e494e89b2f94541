"""Layouts of preference data that are read by renaming, or refused with a conversion that works; labels that differ."""

from __future__ import annotations

from typing import Any

import pytest

from harness.answer.chat import Messages
from harness.pairs.labels import LabelNotes
from harness.pairs.layouts import READERS, PreferencePair, detect_layout
from harness.pairs.unread_layouts import UNREAD_LAYOUTS
from harness.store.user_files import Malformed

ASK, YES, NO = "Why is the sky blue?", "Because of the air.", "No idea."
TALK = f"\n\nHuman: {ASK}\n\nAssistant:"
Row = dict[str, Any]


def user(text: str = ASK) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system() -> dict[str, str]:
    return {"role": "system", "content": "Be brief."}


WHOLE: Row = {"chosen": [user(), assistant(YES)], "rejected": [user(), assistant(NO)]}
SHAREGPT: Row = {
    "conversations": [{"from": "human", "value": ASK}],
    "chosen": {"from": "gpt", "value": YES},
    "rejected": {"from": "gpt", "value": NO},
}


def parse(row: Row) -> PreferencePair:
    return READERS[detect_layout(row)](row, "better")


def content(pair: PreferencePair) -> tuple[Messages, str, str]:
    return pair.prompt, pair.chosen, pair.rejected


RANKED = [{"answer": "so so", "rank": 3.0}, {"answer": YES, "rank": 1.0}, {"answer": NO, "rank": 7.0}]
SCORED = [{"response": NO, "overall_score": 2.0}, {"response": YES, "overall_score": 8.5}]
OTHER_LAYOUTS: list[tuple[str, Row]] = [
    ("UltraFeedback's raw layout", {"source": "x", "instruction": ASK, "completions": SCORED}),
    ("UltraFeedback's raw layout", {"instruction": ASK, "models": [], "completions": SCORED[::-1]}),
    ("Nectar's layout", {"prompt": f"{TALK} ", "answers": RANKED, "turns": 1}),
    ("Nectar's layout", {"prompt": f"{TALK} ", "answers": RANKED[1:]}),
    ("an arena's layout", {"prompt": ASK, "response_a": YES, "response_b": NO, "winner": "model_a"}),
    ("an arena's layout", {"prompt": ASK, "response_a": NO, "response_b": YES, "winner": "B"}),
    (
        "an arena's layout",
        {"conversation_a": WHOLE["rejected"], "conversation_b": WHOLE["chosen"], "winner": "model_b"},
    ),
    ("an arena's layout", {"conversation_a": WHOLE["chosen"], "conversation_b": WHOLE["rejected"], "winner": "a"}),
    ("HelpSteer's layout", {"prompt": ASK, "response_1": NO, "response_2": YES, "preference_strength": 2}),
    ("HelpSteer's layout", {"prompt": ASK, "response_1": YES, "response_2": NO, "preference_strength": -1}),
    ("the layout of SHP", {"history": ASK, "human_ref_A": YES, "human_ref_B": NO, "labels": 1}),
    ("the layout of SHP", {"history": ASK, "human_ref_A": NO, "human_ref_B": YES, "labels": 0}),
]


@pytest.mark.parametrize(("name", "row"), OTHER_LAYOUTS)
def test_the_conversion_in_the_sentence_gives_rows_that_are_read(name: str, row: Row) -> None:
    with pytest.raises(Malformed, match=f"this is {name}.*, which is not read: .*, in Python ") as caught:
        detect_layout(row)
    names: Row = {"row": row}
    exec(str(caught.value).partition(", in Python ")[2], names)
    assert content(parse(names["pair"])) == ([user()], YES, NO)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": ASK, "completion": YES, "label": True}, "KTO's unpaired layout .* with pandas rows"),
        ({"prompt": [user()], "completion": [assistant(YES)], "label": False}, "KTO's unpaired layout"),
        ({"prompt": ASK, "completion": YES}, "supervised fine-tuning .* two answers to each prompt"),
        ({"prompt": [user()], "completion": [assistant(YES)]}, "supervised fine-tuning"),
        ({"messages": [user(), assistant(YES)]}, "single conversations .* two answers to each prompt"),
        ({"messages": [user(), assistant(YES)], "source": "x"}, "single conversations"),
        ({"conversations": [{"from": "human", "value": ASK}]}, "ShareGPT's layout without a preference"),
        ({"id": 1, "conversations": [], "system": ""}, "ShareGPT's layout without a preference"),
        ({"instruction": ASK, "output": YES}, "the layout of instructions"),
        ({"instruction": ASK, "input": "", "output": YES}, "the layout of instructions"),
        ({"prompt": ASK, "completions": ["a", "b"], "labels": [True, False]}, "stepwise supervision"),
        ({"text": "Once upon a time"}, "plain text"),
        (
            {"instruction": ASK, "chosen_response": YES, "rejected_response": NO},
            "rename 'instruction' to 'prompt' and 'chosen_response' to 'chosen' and 'rejected_response' to 'rejected'",
        ),
        ({"question": ASK, "response_j": YES, "response_k": NO}, "rename 'question' to 'prompt' and 'response_j' to"),
        ({"prompt": ASK, "accepted": YES, "rejected": NO}, "'rejected', which are not read: rename 'accepted' to 'ch"),
        ({"a": 1, "b": 2}, "no layout is known with the keys a, b"),
    ],
)
def test_a_layout_that_is_not_read_is_named_with_a_cure(row: Row, sentence: str) -> None:
    with pytest.raises(Malformed, match=sentence):
        detect_layout(row)


def test_the_pandas_line_for_ktos_rows() -> None:
    import pandas

    cure = next(layout.cure for layout in UNREAD_LAYOUTS if "KTO" in layout.name)
    columns = {"prompt": [ASK, "b", ASK, "c"], "completion": [NO, "x", YES, "y"], "label": [False, True, True, False]}
    joined = eval(cure.partition("with pandas ")[2], {"rows": pandas.DataFrame(columns)})
    assert [content(parse(row)) for row in joined.to_dict("records")] == [([user()], YES, NO)]


def test_sharegpt_rows_in_their_variants() -> None:
    messages = [{"from": "system", "value": "Be brief."}, *SHAREGPT["conversations"]]
    expected = ([system(), user()], YES, NO)
    assert content(parse(SHAREGPT | {"conversations": messages})) == expected
    assert content(parse(SHAREGPT | {"conversations": messages, "chosen": YES, "rejected": NO})) == expected
    whole = {s: [*messages, SHAREGPT[s]] for s in ("chosen", "rejected")}
    assert content(parse(whole)) == expected
    assert content(parse({"prompt": ASK, "chosen": SHAREGPT["chosen"], "rejected": SHAREGPT["rejected"]})) == (
        [user()],
        YES,
        NO,
    )
    with pytest.raises(Malformed, match="the role 'observation' is none of"):
        parse(SHAREGPT | {"conversations": [{"from": "observation", "value": "x"}]})
    with pytest.raises(Malformed, match="'input' must be an object with 'messages'"):
        parse({"input": [user()], "preferred_output": [assistant(YES)], "non_preferred_output": [assistant(NO)]})


def test_scores_against_labels_and_both_orders_are_counted() -> None:
    def pair(prompt: str, better: str, worse: str, *scores: float) -> PreferencePair:
        return PreferencePair([user(prompt)], better, worse, *scores, notes=("n",) if prompt == "b" else ())

    pairs = [
        pair("a", "x", "y", 1.0, 2.0),
        pair("a", "y", "x", 2.0, 1.0),
        pair("a", "y", "z", 1.0, 1.0),
        pair("b", "x", "y", 0.0, 0.5),
        pair("b", "z", "y"),
    ]
    notes = LabelNotes()
    for each in pairs:
        notes.add(each)
    assert notes.counts() == {
        "are there in both orders": 2,
        "n": 2,
        "score both answers alike": 1,
        "score the rejected answer higher": 2,
    }
    assert LabelNotes().counts() == {}
