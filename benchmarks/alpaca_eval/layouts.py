"""Rows of alpaca_eval's files as typed models: annotations, model outputs, the evaluation set."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, ValidationError

from benchmarks.shared.judgment_files import FileRow, Number, Text
from harness.answer.reply import REFUSED, Reply


def _switch(value: Any) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise ValueError("true or false is expected")


class AnnotationRow(FileRow):
    """A verdict of a judge (``annotations.json``). ``preference`` is checked where it is read, for alpaca_eval drops
    what is none; ``raw_completion`` is read only where there is no preference."""

    instruction: Text
    preference: Any
    output_1: Text | None = None
    output_2: Text | None = None
    generator_1: Text | None = None
    generator_2: Text | None = None
    annotator: Text | None = None
    is_switched_outputs: Annotated[bool, PlainValidator(_switch)] | None = None
    raw_completion: Any = None


class OutputRow(FileRow):
    """An answer of a model (``model_outputs.json``)."""

    instruction: Text
    output: Text | None
    generator: Text | None = None


class SetRow(FileRow):
    """An item of the evaluation set, with the baseline's answer."""

    instruction: Text
    output: Text | None = None
    baseline_output: Text | None = None
    generator: Text | None = None

    @property
    def answer(self) -> str | None:
        """The baseline's; None if the set holds none."""
        return self.output if self.baseline_output is None else self.baseline_output


class _Token(FileRow):
    token: Text
    logprob: Number


class _Place(FileRow):
    top_logprobs: list[_Token] | None = None


class _Logprobs(FileRow):
    content: list[_Place] | None = None


class _Message(FileRow):
    content: Text | None = None


class _Completion(FileRow):
    logprobs: _Logprobs | None = None
    message: _Message | None = None
    finish_reason: Text | None = None


def reply_of_completion(raw: Any) -> Reply | None:
    """A row's ``raw_completion`` as the judge's reply; None if it is none.

    Args:
        raw: a choice of a chat completion, as the OpenAI API returned it, or the text alone.
    """
    if isinstance(raw, str):
        return Reply(raw)
    try:
        completion = _Completion.model_validate(raw)
    except ValidationError:
        return None
    places = (completion.logprobs.content if completion.logprobs else None) or [_Place()]
    top = {token.token: token.logprob for token in places[0].top_logprobs or []}
    text, finish = completion.message.content if completion.message else None, completion.finish_reason or ""
    refused = finish == "content_filter" and not top
    return Reply(text, top or None, error=f"{REFUSED}content filter" if refused else "", finish=finish)
