"""A prompt that stands once more at the head of both answers is taken once. Pure."""

from __future__ import annotations

from typing import NamedTuple

from harness.answer.chat import Messages
from harness.pairs.overlap import normalised, split_words

REPEATED = "repeat the prompt in both answers (taken once)"
SHORT_REPEATED = "have two answers that begin with the short prompt (left as they are)"
OTHER_PROMPT = "have a prompt that is not in their conversations (the conversations are used)"
TWO_USER_TURNS = "have answers that begin with another turn of the user after the prompt"

FEWEST_WORDS, FEWEST_CHARACTERS = 3, 20
"""Size of a prompt from which two answers that begin with it repeat it. Two answers to "The" may both begin with it."""


class JoinedTexts(NamedTuple):
    """Two answers without the prompt, and what is worth a count."""

    chosen: str
    rejected: str
    notes: tuple[str, ...] = ()


class JoinedTurns(NamedTuple):
    """Two whole conversations, and what is worth a count."""

    chosen: Messages
    rejected: Messages
    notes: tuple[str, ...] = ()


def without_prompt(prompt: str, chosen: str, rejected: str) -> JoinedTexts:
    """Two answers without the prompt that both begin with.

    It counts as repeated if both answers begin with all of it, at the end of a word, and it has at least
    :data:`FEWEST_WORDS` words (a Chinese or Japanese character is a word) or :data:`FEWEST_CHARACTERS` characters.

    Args:
        prompt: the user's last turn.
        chosen: the better answer.
        rejected: the worse answer.
    """
    rests = [_rest(prompt.strip(), answer) for answer in (chosen, rejected)]
    if rests[0] is None or rests[1] is None:
        return JoinedTexts(chosen, rejected)
    if len(split_words(normalised(prompt))) < FEWEST_WORDS and len(prompt.strip()) < FEWEST_CHARACTERS:
        return JoinedTexts(chosen, rejected, (SHORT_REPEATED,))
    return JoinedTexts(rests[0], rests[1], (REPEATED,))


def _rest(prompt: str, answer: str) -> str | None:
    """What follows the prompt in an answer; None if the answer does not begin with it."""
    text = answer.lstrip()
    rest = text[len(prompt) :]
    if not prompt or not text.startswith(prompt):
        return None
    inside_word = prompt[-1].isalnum() and rest[:1].isalnum() and len(split_words(prompt[-1] + rest[0])) == 1
    return None if inside_word else rest.lstrip()


def join_turns(prompt: Messages, chosen: Messages, rejected: Messages) -> JoinedTurns:
    """Whole conversations from the messages of a prompt and those of two answers, which may begin with the prompt, with
    its last turns only, or with a system turn and the prompt.

    Args:
        prompt: its messages, at least one.
        chosen: messages of the better answer, at least one.
        rejected: messages of the worse answer, at least one.
    """
    for length in range(len(prompt), 0, -1):
        head = _stripped(prompt[-length:])
        if head[0]["role"] != "assistant" and _stripped(chosen[:length]) == _stripped(rejected[:length]) == head:
            return JoinedTurns([*prompt, *chosen[length:]], [*prompt, *rejected[length:]], (REPEATED,))
    one_system = chosen[0] == rejected[0] and chosen[0]["role"] == "system" != prompt[0]["role"]
    if one_system and len(chosen) > 1 and len(rejected) > 1:
        joined = join_turns(prompt, chosen[1:], rejected[1:])
        if REPEATED in joined.notes:
            return JoinedTurns([chosen[0], *joined.chosen], [rejected[0], *joined.rejected], joined.notes)
    again = prompt[-1]["role"] == chosen[0]["role"] == "user"
    return JoinedTurns([*prompt, *chosen], [*prompt, *rejected], (TWO_USER_TURNS,) if again else ())


def join_text(prompt: str, chosen: Messages, rejected: Messages) -> JoinedTurns:
    """Whole conversations from a prompt that is a text and two message lists.

    Lists that begin with the assistant follow the prompt; others are whole already.

    Args:
        prompt: the text.
        chosen: messages of the better answer.
        rejected: messages of the worse answer.
    """
    if all(turns[0]["role"] == "assistant" for turns in (chosen, rejected)):
        turn = {"role": "user", "content": prompt}
        return JoinedTurns([turn, *chosen], [turn, *rejected])
    turns = [m["content"].strip() for m in chosen if m["role"] == "user"]
    notes = () if not prompt.strip() else (REPEATED if prompt.strip() in turns else OTHER_PROMPT,)
    return JoinedTurns(chosen, rejected, notes)


def _stripped(messages: Messages) -> Messages:
    return [m | {"content": m["content"].strip()} for m in messages]
