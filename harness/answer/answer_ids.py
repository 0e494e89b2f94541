"""Token ids of given answers: what the chat template writes after the prompt, up to the id that ends an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from harness.answer.chat import Messages, conversation_text, render, text_ids

Ids = list[int]

TURNS: Messages = [
    {"role": "user", "content": "Is the first turn here?"},
    {"role": "assistant", "content": "It stands before the next."},
    {"role": "user", "content": "Then what about this one?"},
]
"""A dialogue by which a template is read."""

_ANSWER = "Qzq"  # stands out in a template's output


class AnswerIds(NamedTuple):
    """Token ids of a prompt and of answers to it, as TRL's DPOTrainer makes them of a conversation.

    Attributes:
        asked: the prompt as a policy is asked.
        prompt: its beginning that the conversations with each answer share: all of it, unless the template writes the
            prompt otherwise before an answer (a thinking block that it opens, say), or tokens merge across the border.
        answers: the rest of each conversation, up to the id that ends the answer.
    """

    asked: Ids
    prompt: Ids
    answers: list[Ids]


def answer_ids(tokenizer: Any, messages: Messages, answers: Sequence[str], end_ids: Sequence[int]) -> AnswerIds:
    """Token ids of answers to a prompt.

    What a template writes after the first id that ends an answer and follows its text is left out (``<eos>`` after
    ``<end_of_turn>``, say): no sampled answer goes on there. Where the template writes no such id, :func:`usual_end`
    is added.

    Args:
        tokenizer: its chat template writes the conversations.
        messages: the prompt.
        answers: texts of the assistant's turn.
        end_ids: ids that end a sampled answer of the model.
    """
    asked = render(tokenizer, messages)
    ending = _ending(tokenizer, messages, end_ids)
    conversations = [
        text_ids(tokenizer, conversation_text(tokenizer, [*messages, _turn(answer)], opened=False))
        for answer in answers
    ]
    start = min((common_length(asked, ids) for ids in conversations), default=len(asked))
    return AnswerIds(asked, asked[:start], [_ended(tokenizer, ids[start:], ending, end_ids) for ids in conversations])


def _turn(answer: str) -> dict[str, str]:
    return {"role": "assistant", "content": answer}


def _ending(tokenizer: Any, messages: Messages, end_ids: Sequence[int]) -> Ids:
    """The ids that the template writes after an answer, from the first one that ends it; empty if there is none."""
    text = conversation_text(tokenizer, [*messages, _turn(_ANSWER)], opened=False)
    return _from_first_end(tokenizer, text.rpartition(_ANSWER)[2], end_ids) if _ANSWER in text else []


def _from_first_end(tokenizer: Any, text: str, end_ids: Sequence[int]) -> Ids:
    ids = text_ids(tokenizer, text) if text else []
    return next((ids[i:] for i, token in enumerate(ids) if token in end_ids), [])


def common_length(first: Sequence[object], second: Sequence[object]) -> int:
    """Length of the common beginning of two texts or lists of ids."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _ended(tokenizer: Any, ids: Ids, ending: Ids, end_ids: Sequence[int]) -> Ids:
    """An answer up to its end id. An end id that its text ends with is that one: the end is taken once."""
    last = len(ids) - len(ending)
    if ids[last:] != ending:  # tokens merged across the border: the end is none of them
        last = len(ids)
    place = last
    while place and (ids[place - 1] in end_ids or not tokenizer.decode([ids[place - 1]]).strip()):
        place -= 1
        if ids[place] in end_ids:
            last = place
    return [*ids[:last], ids[last] if last < len(ids) else usual_end(tokenizer, end_ids)]


def usual_end(tokenizer: Any, end_ids: Sequence[int]) -> int:
    """The id that ends a sampled answer where the template writes none after the last turn.

    It is the end id that the template writes after an earlier turn of the assistant, else ``tokenizer.eos_token_id``,
    else the first end id.
    """
    try:
        between = ending_between_turns(tokenizer, end_ids)
    except Exception:  # noqa: BLE001 - a template that refuses a dialogue writes no such end
        between = []
    if between:
        return between[0]
    return int(tokenizer.eos_token_id if tokenizer.eos_token_id in end_ids else end_ids[0])


def ending_between_turns(tokenizer: Any, end_ids: Sequence[int]) -> Ids:
    """What the template writes between an assistant's turn and the user's next, from the first id that ends an answer;
    empty if there is none."""
    text = conversation_text(tokenizer, TURNS, opened=True)
    return _from_first_end(tokenizer, text.partition(TURNS[1]["content"])[2].partition(TURNS[2]["content"])[0], end_ids)


class TextMarks(NamedTuple):
    """Which of a tokenizer's special tokens a text holds: those are read as tokens, not as their letters.

    Attributes:
        ended: the text ends with a token that ends an answer.
        special: it holds a special token before that.
    """

    ended: bool
    special: bool


def text_marks(tokenizer: Any, text: str, end_ids: Sequence[int]) -> TextMarks:
    """The special tokens that a text holds already."""
    rest = without_end(tokenizer, text, end_ids)
    return TextMarks(rest != text, bool(_any_of(_special_tokens(tokenizer)).search(rest)))


def without_end(tokenizer: Any, text: str, end_ids: Sequence[int]) -> str:
    """A text without the end tokens that it ends with, and what white space follows them."""
    added = tokenizer.added_tokens_decoder
    ends = tuple(added[token].content for token in end_ids if token in added)
    while (rest := text.rstrip()).endswith(ends):
        text = next(rest.removesuffix(end) for end in ends if rest.endswith(end))
    return text


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(sorted({*tokenizer.all_special_tokens, *added} - {""}))


@lru_cache(maxsize=8)
def _any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")
