"""Model answers in any of Arena-Hard's official layouts, and their style."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.arena_hard.layouts import AnswerRow
from benchmarks.arena_hard.style import markdown_counts
from benchmarks.shared.judgment_files import read_typed_rows
from harness.errors import UserError


class AnswerKey(NamedTuple):
    """Whose answer to which question."""

    model: str
    question: str


class ModelAnswer(NamedTuple):
    """An answer's text, its length in the official tokenizer's tokens (None where the file has none), and its place:
    file and line."""

    text: str
    tokens: float | None
    place: str


StyleFeatures = dict[AnswerKey, list[float]]
"""Token length, headers, list items and bold spans of each answer."""


def jsonl_files(path: Path) -> list[Path]:
    """The file itself, or the JSONL files of a folder.

    Raises:
        UserError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise UserError(f"{path} holds no .jsonl file")
    return files


def answers_by_question(file: Path) -> dict[str, dict[str, ModelAnswer]]:
    """Answers of a file by model and question. Models are named in the rows, else by the file. Of several answers to
    one question the last that has a text counts, as upstream takes the last.

    Raises:
        UserError: a row breaks the layout, or a question has no answer with a text.
    """
    answers: dict[str, dict[str, ModelAnswer]] = {}
    empty: dict[AnswerKey, str] = {}
    for line, row in read_typed_rows(file, AnswerRow):
        place = f"{file}, {line}"
        key = AnswerKey(row.model_id or row.model or file.stem, row.question(place))
        if row.text is None:
            empty.setdefault(key, place)
        else:
            answers.setdefault(key.model, {})[key.question] = ModelAnswer(row.text, row.tokens, place)
    for key, place in empty.items():
        if key.question not in answers.get(key.model, {}):
            raise UserError(f"{place}: the answer of {key.model} to {key.question} has no text")
    return answers


def read_answers(path: Path, models: Collection[str] | None = None) -> dict[AnswerKey, ModelAnswer]:
    """Answers of a file or a folder of files. A model has the answers whose rows name it, else the file that has its
    name.

    Args:
        path: a file, or a folder of files.
        models: that are needed; None for all that rows name.

    Raises:
        UserError: a row breaks the layout, an answer has no text, or two files hold answers of a model and neither has
            its name.
    """
    by_name: dict[str, list[tuple[Path, dict[str, ModelAnswer]]]] = {}
    by_file: dict[str, dict[str, ModelAnswer]] = {}
    for file in jsonl_files(path):
        models_of_file = answers_by_question(file)
        for model, answers in models_of_file.items():
            by_name.setdefault(model, []).append((file, answers))
            if len(models_of_file) == 1:
                by_file[file.stem] = answers
    chosen = {}
    for model in by_name if models is None else models:
        own = by_name.get(model, [])
        if len(own) > 1:
            own = [(file, answers) for file, answers in own if file.stem == model] or own
        if len(own) > 1:
            first, second = own[0][0], own[1][0]
            raise UserError(f"{first} and {second} both hold answers of {model}: name it in one of them alone")
        chosen[model] = own[0][1] if own else by_file.get(model, {})
    return {AnswerKey(model, question): answer for model, own in chosen.items() for question, answer in own.items()}


def style_features(answers: Mapping[AnswerKey, ModelAnswer]) -> StyleFeatures:
    """Style of each answer. Token lengths are those in the files: they belong to the official tokenizer of the version.

    Raises:
        UserError: an answer without a token length.
    """
    features: StyleFeatures = {}
    for key, answer in answers.items():
        if answer.tokens is None:
            raise UserError(f"{answer.place}: the answer of {key.model} to {key.question} has no token_len")
        features[key] = [answer.tokens, *map(float, markdown_counts(answer.text))]
    return features
