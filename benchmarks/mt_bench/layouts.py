"""The layouts of FastChat's files, validated as they are read: judgments, questions, answers, references, prompts."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PlainValidator

from benchmarks.shared.judgment_files import FileRow, Identifier, Number, Text, TypedRow, WholeNumber, read_typed_rows
from harness.errors import UserError

QuestionId = int | str

TURNS = 2
"""Turns of every question."""


def _judge_name(value: Any) -> str:
    name = value[0] if isinstance(value, list) and value else value
    if name is None:
        return "not named"
    if not isinstance(name, str):
        raise ValueError("a judge's name, or a list that begins with it, is expected")
    return name


class NumberedRow(FileRow):
    """A row of a question."""

    question_id: Identifier


class Judgment(NumberedRow):
    """A row of any judgment file; ``judge`` holds its name, alone or before that of the prompt."""

    turn: WholeNumber
    judge: Annotated[str, PlainValidator(_judge_name)] = "not named"


class SingleJudgment(Judgment):
    """``gpt-4_single.jsonl``. FastChat stores -1 where it read no rating; its mean also passes over null and NaN."""

    model: Text
    score: Number | None
    judgment: Text | None = None


Winner = Literal["model_1", "model_2", "tie", "error"]


class PairwiseJudgment(Judgment):
    """``gpt-4_pair.jsonl``: two games. Game 1 shows ``model_1`` as assistant A, game 2 as assistant B."""

    model_1: Text
    model_2: Text
    g1_winner: Winner
    g2_winner: Winner
    g1_judgment: Text | None = None
    g2_judgment: Text | None = None


class CategorisedQuestion(NumberedRow):
    """What scores of ``question.jsonl`` need."""

    category: Text


class Question(CategorisedQuestion):
    """``question.jsonl``."""

    turns: list[Text]


class _Choice(FileRow):
    turns: list[Text]


class Answer(NumberedRow):
    """An answer to a question: of a model (``model_answer/NAME.jsonl``), or the reference."""

    choices: list[_Choice] = Field(min_length=1)

    @property
    def turns(self) -> list[str]:
        """Of the first choice."""
        return self.choices[0].turns


class JudgePrompt(FileRow):
    """``judge_prompts.jsonl``."""

    name: Text
    system_prompt: Text
    prompt_template: Text


N = TypeVar("N", bound=NumberedRow)


def read_numbered_rows(path: Path, layout: type[N]) -> list[TypedRow[N]]:
    """Rows of a file whose questions are all numbered, or all named by texts.

    Raises:
        UserError: the file is missing, broken or empty, a row breaks the layout, or the file holds both kinds of ids.
    """
    rows = read_typed_rows(path, layout)
    for place, row in rows:
        if isinstance(row.question_id, str) != isinstance(rows[0].row.question_id, str):
            raise UserError(
                f"{path}, {place}: the key 'question_id' holds {row.question_id!r}, but {rows[0].place} "
                f"{rows[0].row.question_id!r}: use numbers throughout, or texts"
            )
    return rows


def read_questions(path: Path) -> list[Question]:
    """The questions of ``question.jsonl``, each with two turns (further ones are left out).

    Raises:
        UserError: the file breaks its layout, or a question has fewer turns, an empty one, or stands twice.
    """
    places: dict[QuestionId, str] = {}
    rows = read_numbered_rows(path, Question)
    for place, row in rows:
        if len(row.turns) < TURNS:
            raise UserError(
                f"{path}, {place}: the key 'turns' holds {_turns(row.turns)}, but a question has two: add them"
            )
        blank = next((turn for turn in range(TURNS) if not row.turns[turn].strip()), None)
        if blank is not None:
            raise UserError(f"{path}, {place}: turn {blank + 1} of the question is empty: write it, or remove the row")
        if row.question_id in places:
            raise UserError(
                f"{path}, {place}: question {row.question_id} stands in {places[row.question_id]} too: remove one"
            )
        places[row.question_id] = place
    return [row for _, row in rows]


def read_two_turn_answers(path: Path, needed: Iterable[QuestionId], what: str) -> dict[QuestionId, list[str]]:
    """Both turns of the answers to the ``needed`` questions; of repeated answers the last, as FastChat takes it.

    Args:
        path: of the answers.
        needed: ids of questions.
        what: what the file holds, for the error (``an answer``).

    Raises:
        UserError: the file breaks its layout, or an answer that is needed is missing or has fewer turns.
    """
    answers = {row.question_id: (place, row.turns) for place, row in read_numbered_rows(path, Answer)}
    turns = {}
    for number in needed:
        if number not in answers:
            raise UserError(f"{path} lacks {what} to question {number}, which has two turns: add it")
        place, texts = answers[number]
        if len(texts) < TURNS:
            raise UserError(
                f"{path}, {place}: the key 'choices[0].turns' holds {_turns(texts)}, but question {number} has two: "
                f"add {what} to each"
            )
        turns[number] = texts[:TURNS]
    return turns


def read_judge_prompts(path: Path) -> dict[str, JudgePrompt]:
    """Prompts by name.

    Raises:
        UserError: the file breaks its layout.
    """
    return {row.name: row for _, row in read_typed_rows(path, JudgePrompt)}


def check_template(
    path: Path, prompt: JudgePrompt, fields: Iterable[str], needed: Iterable[Sequence[str]] = ()
) -> None:
    """Check that a template can be filled, and shows the judge what it judges.

    Args:
        path: of ``judge_prompts.jsonl``, for the error.
        prompt: with the template.
        fields: names that have a text.
        needed: groups of names, of each of which the template must hold one.

    Raises:
        UserError: it has another placeholder, or a brace alone, or lacks one that is needed.
    """
    allowed = sorted(fields)
    try:
        parts = list(string.Formatter().parse(prompt.prompt_template))
    except ValueError as error:
        raise UserError(
            f"{path}: the 'prompt_template' of {prompt.name!r} cannot be filled ({error}): write {{{{ for a brace"
        ) from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in allowed or form or conversion):
            raise UserError(
                f"{path}: the 'prompt_template' of {prompt.name!r} holds {{{name}}}: the placeholders are "
                f"{', '.join(allowed)}"
            )
    held = {name for _, name, _, _ in parts}
    for group in needed:
        if held.isdisjoint(group):
            raise UserError(
                f"{path}: the 'prompt_template' of {prompt.name!r} does not hold "
                f"{' or '.join(f'{{{name}}}' for name in group)}, so that the judge would not see it: add it"
            )


_METRICS = {
    *("items", "rating", "win_rate_adjusted", "turn_1", "turn_2"),
    *("win", "tie", "loss", "agree", "first_slot", "length"),
}


def category_name(category: str) -> str:
    """Name of a category's metric; one with the name of another metric gets a prefix."""
    return f"category {category}" if category in _METRICS else category


def _turns(turns: Sequence[str]) -> str:
    return f"{len(turns)} turn" if len(turns) == 1 else f"{len(turns)} turns"
