"""What of a policy's answer is judged, measured and fed to the next turn: all of it, or what follows its thoughts."""

from __future__ import annotations

from typing import NamedTuple

from harness.answer.verdict import THINKING_TAG, without_thinking
from harness.recipe.endpoint import Thinking


class FinalAnswer(NamedTuple):
    """An answer as it is judged.

    Attributes:
        text: without thoughts if they are left out.
        truncated: it was cut by length, or its thoughts never end.
        thoughts: characters that were left out; 0 if the answer holds no thoughts.
    """

    text: str
    truncated: bool
    thoughts: int = 0


def final_answer(text: str, stopped: bool, thinking: Thinking, *, opened: bool = False) -> FinalAnswer:
    """What is judged of an answer.

    Args:
        text: the whole answer.
        stopped: it ended by itself.
        thinking: ``strip`` leaves thoughts out; thoughts that never end leave nothing.
        opened: the prompt ends inside a thinking block, as some chat templates write it.
    """
    whole = text.strip()
    if thinking == "keep":
        return FinalAnswer(whole, not stopped)
    rest = without_thinking(whole)
    if rest is None or (opened and rest == whole):
        return FinalAnswer("", True, len(whole))
    return FinalAnswer(rest, not stopped, len(whole) - len(rest))


def opens_thoughts(prompt: str) -> bool:
    """Whether a prompt, as a chat template wrote it, ends with the tag that opens a thinking block."""
    tags = list(THINKING_TAG.finditer(prompt))
    return bool(tags) and bool(tags[-1]["opening"]) and not prompt[tags[-1].end() :].strip()


def is_blank(text: str) -> bool:
    """Whether a text holds nothing but white space and the tags of thinking blocks."""
    return not THINKING_TAG.sub("", text).strip()


def without_opened_block(prompt: str) -> str:
    """A prompt without the thinking block that its template opens, or leaves empty, at its end."""
    end = len(prompt)
    for tag in reversed(list(THINKING_TAG.finditer(prompt))):
        if prompt[tag.end() : end].strip():
            break
        end = tag.start()
        if tag["opening"]:
            break
    return prompt[:end]
