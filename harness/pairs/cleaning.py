"""Cleaning of imported pairs: both files are read once, row by row, and what is left of them is written down."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.pairs.labels import LabelNotes
from harness.pairs.layouts import PreferencePair
from harness.pairs.overlap import EvaluationTexts, normalised
from harness.pairs.pair_source import PairSource
from harness.pairs.parts import PARTS, divide_into_parts
from harness.pairs.usable import UsablePair, UsablePairs, listed
from harness.recipe.recipe import PairsSpec
from harness.store.json_files import Row, json_text, text_hash, write_text
from harness.store.row_files import RowWriter

TEST_ROWS, EVALUATION, NEAR = "rows of the test file", "evaluation prompts", "nearly evaluation prompts"


class Letters(NamedTuple):
    """Letters of the training rows: means of a prompt and of an answer, the longest prompt, and the longest prompt with
    its longer answer."""

    prompt: float
    answer: float
    longest_prompt: int
    longest_pair: int


class Sources(NamedTuple):
    """Where training rows, and evaluation and held-out rows, come from."""

    train: PairSource
    test: PairSource


class _Cleaned:
    """Writes the pairs of a file that stay, one by one. In memory is little of each row.

    Attributes:
        prompts: a hash of each row's prompt.
        offsets: where each row begins.
        letters: of prompt, chosen and rejected answer of each row, one after the other.
        notes: counts what is worth a note.
    """

    def __init__(self, writer: RowWriter) -> None:
        self._writer = writer
        self.prompts, self.offsets, self.letters = array("Q"), array("Q"), array("L")
        self.notes = LabelNotes()

    def add(self, usable: UsablePair, prompt: str) -> None:
        """Write a pair.

        Args:
            usable: the pair and its id.
            prompt: what the user said, normalised.
        """
        row = _row(usable)
        self.offsets.append(self._writer.write(row))
        self.prompts.append(text_hash(prompt))
        self.letters.extend(len(row[key]) for key in ("prompt", "chosen", "rejected"))
        self.notes.add(usable.pair)


def _row(usable: UsablePair) -> Row:
    pair = usable.pair
    row: Row = {"id": usable.id, "prompt": pair.prompt_text(), "messages": pair.prompt}
    row |= {"chosen": pair.chosen, "rejected": pair.rejected}
    if pair.chosen_score is not None and pair.rejected_score is not None:
        row |= {"chosen_reward": pair.chosen_score, "rejected_reward": pair.rejected_score}
    return row


def _answers_hash(prompt: str, pair: PreferencePair) -> int:
    """Of a prompt with two answers, in either order."""
    return text_hash(prompt, *sorted((pair.chosen, pair.rejected)))


def clean(sources: Sources, data: PairsSpec, identity: dict[str, dict[str, str]], folder: Path) -> None:
    """Read both files once and write what is left of them, with a summary: counts, and where the rows of parts begin.

    Args:
        sources: the two files.
        data: layout, label and sizes of the parts.
        identity: by file what identifies its content.
        folder: gets the files.

    Raises:
        UserError: a row is malformed, or fewer rows are left than the recipe asks for.
    """
    evaluation, tested = EvaluationTexts(), set[int]()
    test_pairs, train_pairs = UsablePairs(sources.test, data), UsablePairs(sources.train, data)
    with RowWriter(folder / "test.jsonl") as writer:
        test = _Cleaned(writer)
        for usable in test_pairs:
            prompt = normalised(usable.pair.user_text())
            evaluation.add(prompt)
            tested.add(_answers_hash(prompt, usable.pair))
            test.add(usable, prompt)
    likenesses, usable_rows = Counter[str](), 0
    with RowWriter(folder / "train.jsonl") as writer:
        train = _Cleaned(writer)
        for usable in train_pairs:
            usable_rows += 1
            prompt = normalised(usable.pair.user_text())
            likeness = evaluation.compare(prompt)
            if likeness == "equal" and _answers_hash(prompt, usable.pair) in tested:
                likenesses["row"] += 1
            elif likeness is not None:
                likenesses[likeness] += 1
            if likeness in (None, "shared"):
                train.add(usable, prompt)
    counts = {"train": train_pairs.counts(), "test": test_pairs.counts()}
    reasons = {TEST_ROWS: likenesses["row"], EVALUATION: likenesses["equal"], NEAR: likenesses["near"]}
    reasons = {reason: count for reason, count in reasons.items() if count}
    counts["train"]["left_out"] |= reasons
    if not train.offsets:
        raise UserError(
            f"data.train: all {usable_rows} usable rows ask a prompt of data.test ({listed(reasons)}): name another "
            "file, or divide the rows so that no prompt is in both"
        )
    for name, cleaned in (("train", train), ("test", test)):
        counts[name]["kept"] |= cleaned.notes.counts()
    if likenesses["shared"]:
        counts["train"]["kept"]["share 13 words with an evaluation prompt"] = likenesses["shared"]
    places = _divide(train, test, data, counts)
    offsets = {part: [(train, test)[PARTS[part] == "test"].offsets[i] for i in rows] for part, rows in places.items()}
    summary = {"counts": counts, "identity": identity, "letters": _letters(train.letters, places["train"])}
    write_text(folder / "summary.json", json_text(summary | {"offsets": offsets}))


def _divide(
    train: _Cleaned, test: _Cleaned, data: PairsSpec, counts: dict[str, dict[str, Any]]
) -> dict[str, list[int]]:
    try:
        return divide_into_parts(train.prompts, test.prompts, data)
    except UserError as error:
        lost = [(name, counts[name]) for name in ("train", "test") if counts[name]["left_out"]]
        cleaning = "; ".join(f"of {c['rows']} {name} rows {listed(c['left_out'])}" for name, c in lost)
        raise UserError(f"{error} (left out {cleaning})" if lost else str(error)) from None


def _letters(letters: Sequence[int], places: Sequence[int]) -> Letters:
    """Of the rows at these places; three numbers a row."""
    rows = [letters[3 * place : 3 * place + 3] for place in places]
    return Letters(
        sum(prompt for prompt, _, _ in rows) / len(rows),
        sum(chosen + rejected for _, chosen, rejected in rows) / 2 / len(rows),
        max(prompt for prompt, _, _ in rows),
        max(prompt + max(chosen, rejected) for prompt, chosen, rejected in rows),
    )
