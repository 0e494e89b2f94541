"""Model answers in any of Arena-Hard's official layouts, and their style."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.arena_hard.style import markdown_counts
from harness.errors import UserError
from harness.store import user_files


class AnswerKey(NamedTuple):
    """Whose answer to which question."""

    model: str
    question: str


class ModelAnswer(NamedTuple):
    """An answer's text, and its length in the official tokenizer's tokens; None where the file has none."""

    text: str
    tokens: float | None


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


def question_id(row: Mapping[str, Any], source: Path) -> str:
    """A row's question, by either of the official names.

    Raises:
        UserError: it has neither; ``source`` is named.
    """
    for key in ("question_id", "uid"):
        if key in row:
            return str(row[key])
    raise UserError(f"{source}: a row has neither question_id nor uid")


def read_answers(path: Path) -> dict[AnswerKey, ModelAnswer]:
    """Answers of a file or a folder of files.

    Raises:
        UserError: an answer without a text.
    """
    answers: dict[AnswerKey, ModelAnswer] = {}
    for file in jsonl_files(path):
        for row in user_files.read_user_rows(file):
            model = str(row.get("model_id") or row.get("model") or file.stem)
            answers[AnswerKey(model, question_id(row, file))] = _answer(row, file)
    return answers


def _answer(row: Mapping[str, Any], file: Path) -> ModelAnswer:
    metadata = row.get("metadata") or row.get("conv_metadata") or {}
    tokens, text = row.get("token_len", metadata.get("token_len")), row.get("answer")
    if text is None and row.get("choices"):
        turn = row["choices"][0]["turns"][0]
        text, tokens = turn.get("content"), tokens if tokens is not None else turn.get("token_len")
    if text is None and row.get("messages"):
        content = row["messages"][-1].get("content")
        text = content.get("answer") if isinstance(content, dict) else content
    if text is None:
        raise UserError(f"{file}: the answer to {question_id(row, file)} has no text")
    return ModelAnswer(str(text), None if tokens is None else float(tokens))


def read_style_features(path: Path) -> StyleFeatures:
    """Style of each answer of a file or a folder. Token lengths are those in the files: they belong to the official
    tokenizer of the version.

    Raises:
        UserError: an answer without a text or a token length.
    """
    features: StyleFeatures = {}
    for key, answer in read_answers(path).items():
        if answer.tokens is None:
            raise UserError(f"{path}: the answer of {key.model} to {key.question} has no token_len")
        features[key] = [answer.tokens, *map(float, markdown_counts(answer.text))]
    return features
