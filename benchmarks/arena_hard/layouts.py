"""Rows of Arena-Hard's own files: judgments, battles, answers and questions, of v0.1 and v2.0."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import PlainValidator, TypeAdapter

from benchmarks.shared.judgment_files import FileRow, Identifier, Text
from harness.errors import UserError

_TEXT = TypeAdapter(Text)


def _reply_text(value: Any) -> str | None:
    text = value.get("answer") if isinstance(value, dict) else value
    if text is not None and not isinstance(text, str):
        raise ValueError("a text, or an object with a text 'answer', is expected")
    return None if text is None else _TEXT.validate_python(text)


def _token_count(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("a number of tokens is expected")
    return float(value)


ReplyText = Annotated[str | None, PlainValidator(_reply_text)]
"""What a model wrote: the text itself (v0.1), or in an object beside its thoughts (v2.0); None where nothing came."""

TokenCount = Annotated[float, PlainValidator(_token_count)]


class QuestionKeyed(FileRow):
    """A row that belongs to a question, by either of the official names."""

    question_id: Identifier | None = None
    uid: Identifier | None = None

    def question(self, place: str) -> str:
        """The question's id.

        Raises:
            UserError: there is none; ``place`` (file and line) is named.
        """
        key = self.uid if self.question_id is None else self.question_id
        if key is None:
            raise UserError(f"{place}: the key 'question_id' (or 'uid') is missing")
        return str(key)


class Game(FileRow):
    """One game as it was judged: the judge's text, and the label that the official tool read from it."""

    judgment: ReplyText = None
    score: Text | None = None

    @property
    def has_text(self) -> bool:
        """Whether the judge's text is there."""
        return self.judgment is not None


class JudgmentRow(QuestionKeyed):
    """Both games of a model on a question. ``games``: None, or a game that is None, where judging failed."""

    games: list[Game | None] | None
    model: Text | None = None
    judge: Text | None = None
    baseline: Text | None = None
    category: Text | None = None


class BattleRow(QuestionKeyed):
    """A battle of ``arena_hard_battles.jsonl``: ``model_a`` is the baseline; a strong verdict is three such rows."""

    model_a: Text
    model_b: Text
    winner: Text


class Turn(FileRow):
    """A turn of an answer or of a question."""

    content: ReplyText = None
    token_len: TokenCount | None = None


class Choice(FileRow):
    """An answer of v0.1."""

    turns: list[Turn] | None = None


class AnswerMetadata(FileRow):
    """What upstream counted on an answer; style is counted again from the text."""

    token_len: TokenCount | None = None


class AnswerRow(QuestionKeyed):
    """A model's answer to a question."""

    model_id: Text | None = None
    model: Text | None = None
    answer: Text | None = None
    token_len: TokenCount | None = None
    metadata: AnswerMetadata | None = None
    conv_metadata: AnswerMetadata | None = None
    choices: list[Choice] | None = None
    messages: list[Turn] | None = None

    @property
    def text(self) -> str | None:
        """The answer's text; None if there is none."""
        if self.answer is not None:
            return self.answer
        turn = self._first_turn
        if turn is not None and turn.content is not None:
            return turn.content
        return self.messages[-1].content if self.messages else None

    @property
    def tokens(self) -> float | None:
        """Its length in the official tokenizer's tokens; None where the file has none."""
        sources = (self, self.metadata, self.conv_metadata, self._first_turn)
        return next((s.token_len for s in sources if s is not None and s.token_len is not None), None)

    @property
    def _first_turn(self) -> Turn | None:
        turns = self.choices[0].turns if self.choices else None
        return turns[0] if turns else None


class QuestionRow(QuestionKeyed):
    """A question: ``prompt`` (v2.0), or the first of its ``turns`` (v0.1)."""

    category: Text | None = None
    prompt: Text | None = None
    turns: list[Turn] | None = None

    @property
    def text(self) -> str | None:
        """What is asked; None if nothing is."""
        return self.turns[0].content if self.prompt is None and self.turns else self.prompt
