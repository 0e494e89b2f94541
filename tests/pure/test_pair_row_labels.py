"""What rows say beside prompt and answers: scores, ties, switches of the chat template, further parts of the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.pairs.file_reader import FileReader
from harness.pairs.labels import AGAINST, TIED, LabelNotes
from harness.pairs.layouts import TIE, PreferencePair, Unusable, columns_not_used
from harness.pairs.pair_source import PairSource
from harness.pairs.row_labels import SCORE_COLUMNS
from harness.store.user_files import Malformed

ASK, YES, NO = "Why is the sky blue?", "Because of the air.", "No idea."
Row = dict[str, Any]
TEXTS: Row = {"prompt": ASK, "chosen": YES, "rejected": NO}
LISTS: Row = {
    "prompt": [{"role": "user", "content": ASK}],
    "chosen": [{"role": "assistant", "content": YES}],
    "rejected": [{"role": "assistant", "content": NO}],
}


def parse(row: Row) -> PreferencePair:
    return FileReader([row]).read(row)


@pytest.mark.parametrize("what", ["score", "rating", "reward"])
@pytest.mark.parametrize("pattern", ["{side}_{what}", "{what}_{side}"])
def test_scores_under_every_name_are_compared_with_the_label(what: str, pattern: str, tmp_path: Path) -> None:
    chosen, rejected = (pattern.format(what=what, side=side) for side in ("chosen", "rejected"))
    assert (chosen, rejected) in SCORE_COLUMNS
    row = TEXTS | {chosen: 1, rejected: 4.0}
    assert (parse(row).chosen_score, parse(row).rejected_score) == (1.0, 4.0)
    assert columns_not_used(row, "trl", "better") == set()
    notes = LabelNotes()
    for each in (row, TEXTS | {chosen: 2, rejected: 2}):
        notes.add(parse(each))
    assert notes.counts() == {AGAINST: 1, TIED: 1}
    (tmp_path / "a.csv").write_text(f"prompt,chosen,rejected,{chosen},{rejected}\na,b,c,1,4.0\n")
    read = next(PairSource("a", tmp_path / "a.csv").rows()).row
    assert (parse(read).chosen_score, parse(read).rejected_score) == (1.0, 4.0)


@pytest.mark.parametrize(
    ("more", "scores", "unused"),
    [
        ({"chosen_rating": 9.0}, (None, None), {"chosen_rating"}),
        ({"chosen_rating": "high", "rejected_rating": "low"}, (None, None), {"chosen_rating", "rejected_rating"}),
        ({"chosen_rating": float("nan"), "rejected_rating": 1}, (None, None), {"chosen_rating", "rejected_rating"}),
        ({"chosen_rating": None, "rejected_rating": None, "chosen_score": 2, "rejected_score": 1}, (2, 1), set()),
        (
            {"score_chosen": 2, "score_rejected": 1, "chosen_reward": 0, "rejected_reward": 3},
            (2, 1),
            {"chosen_reward", "rejected_reward"},
        ),
    ],
)
def test_scores_that_are_not_read_are_listed(more: Row, scores: tuple[Any, Any], unused: set[str]) -> None:
    pair = parse(TEXTS | more)
    assert (pair.chosen_score, pair.rejected_score) == scores
    assert columns_not_used(TEXTS | more, "trl", "better") == unused


@pytest.mark.parametrize(
    "more", [{"tie": True}, {"tie": 1.0}, {"tie": "True"}, {"preference": "tie"}, {"preference": "Equal", "tie": False}]
)
def test_a_tie_is_no_preference(more: Row) -> None:
    with pytest.raises(Unusable, match=TIE):
        parse(TEXTS | more)


@pytest.mark.parametrize(
    ("more", "unused"),
    [
        ({"tie": False}, set()),
        ({"tie": "0"}, set()),
        ({"tie": None, "preference": ""}, set()),
        ({"preference": "Chosen"}, set()),
        ({"preference": "model 7"}, {"preference"}),
        ({"preference": "model 7", "tie": False}, {"preference", "tie"}),
        ({"continue_final_message": False, "add_generation_prompt": True}, set()),
        ({"continue_final_message": "False", "add_generation_prompt": "1"}, set()),
        ({"enable_thinking": None}, set()),
        ({"instruction": ASK.upper(), "context": "the sky"}, set()),
        ({"context": [{"role": "user", "content": ASK}]}, set()),
        ({"context": "Be brief.", "system": "Be brief."}, set()),
    ],
)
def test_columns_that_change_nothing(more: Row, unused: set[str]) -> None:
    pair = parse(TEXTS | more)
    assert (pair.prompt[-1]["content"], pair.chosen, pair.rejected) == (ASK, YES, NO)
    assert columns_not_used(TEXTS | more, "trl", "better") == unused


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"preference": "rejected"}, "'preference' says that the rejected answer is the better one: exchange"),
        ({"tie": "maybe"}, "'tie' must be true or false, not 'maybe'"),
        ({"enable_thinking": False}, "the column 'enable_thinking' changes what the row means"),
        ({"enable_thinking": True}, "the column 'enable_thinking' changes what the row means"),
        ({"continue_final_message": True}, "the column 'continue_final_message' changes"),
        ({"add_generation_prompt": False}, "the column 'add_generation_prompt' changes"),
        ({"instruction": "Sum up."}, "'instruction' is not in the prompt: write it at the beginning of 'prompt', or"),
        ({"context": "The sea is deep."}, "'context' is not in the prompt: write it into 'prompt', or remove"),
        ({"context": [{"role": "user", "content": "Hi"}]}, "'context' is not in the prompt"),
        ({"context": {"page": 3}}, "'context' is not in the prompt"),
    ],
)
def test_columns_that_change_the_meaning(more: Row, sentence: str) -> None:
    for row in (TEXTS, LISTS):
        with pytest.raises(Malformed, match=sentence):
            parse(row | more)


@pytest.mark.parametrize("key", ["weight", "train", "loss"])
def test_a_turn_that_should_not_count(key: str) -> None:
    for value in (0, False, 0.5):
        with pytest.raises(Malformed, match=f"message 0: '{key}' changes what the row means .* remove the key"):
            parse(LISTS | {"chosen": [LISTS["chosen"][0] | {key: value}]})
    for value in (1, True, 1.0, None):
        assert parse(LISTS | {"chosen": [LISTS["chosen"][0] | {key: value}]}).chosen == YES
