"""Layouts of preference data: a row of a file becomes one :class:`PreferencePair`. Pure; nothing is read here.

``trl``: TRL's standard and conversational formats, the prompt explicit or implicit; ``ultrafeedback``: message lists
that hold the prompt, with scores; ``pku-saferlhf``: two responses and the number of the better (or the safer) one;
``hh-rlhf``: transcripts of ``Human:`` and ``Assistant:`` turns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, Literal, NamedTuple, cast

from harness.answer.chat import Messages
from harness.store.user_files import LONE_SURROGATE, Malformed, has_lone_surrogate

RawRow = Mapping[str, Any]
"""A row as its file holds it."""

Label = Literal["better", "safer"]
"""Which of PKU-SafeRLHF's two preferences counts."""

ROLES = ("system", "user", "assistant")

NO_PROMPT, EMPTY, EQUAL = "no shared prompt", "empty answers", "equal answers"

PROMPT_LIKE_KEYS = ("instruction", "question", "query", "input", "messages")
"""Keys that often hold the prompt where a row has no ``prompt``."""


@dataclass(frozen=True)
class PreferencePair:
    """A prompt (messages, the last one of the user) and two answers to it, with their scores if known."""

    prompt: Messages
    chosen: str
    rejected: str
    chosen_score: float | None = None
    rejected_score: float | None = None

    def user_text(self) -> str:
        """All turns of the user."""
        return "\n".join(m["content"] for m in self.prompt if m["role"] == "user")

    def prompt_text(self) -> str:
        """The prompt as one text: the user's turn, or a transcript if there are more turns."""
        if len(self.prompt) == 1:
            return self.prompt[0]["content"]
        return "\n\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in self.prompt)


class Unusable(ValueError):  # noqa: N818
    """A well-formed row that holds no preference; the message is the reason under which it is counted."""


def read_trl(row: RawRow, label: Label) -> PreferencePair:
    """TRL's preference formats: strings or message lists, with or without a ``prompt``."""
    chosen, rejected = _field(row, "chosen"), _field(row, "rejected")
    prompt = _field(row, "prompt") if row.get("prompt") is not None else None
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _pair_of_conversations(prompt, _messages(chosen, "chosen"), _messages(rejected, "rejected"), row)
    if isinstance(chosen, list) or isinstance(rejected, list):
        raise Malformed("'chosen' and 'rejected' must be of one kind, both strings or both lists of messages")
    if isinstance(prompt, list):
        raise Malformed("'prompt' is a list of messages, so 'chosen' and 'rejected' must be lists too")
    if prompt is None:
        prompt, chosen, rejected = extract_prompt(chosen, rejected)
    return _pair([{"role": "user", "content": prompt}], chosen, rejected, row)


def read_ultrafeedback(row: RawRow, label: Label) -> PreferencePair:
    """UltraFeedback binarized: ``chosen`` and ``rejected`` are message lists with the prompt in front."""
    for key in ("chosen", "rejected"):
        if not isinstance(_field(row, key), list):
            raise Malformed(f"{key!r} must be a list of messages, not {type(row[key]).__name__}")
    return read_trl({k: v for k, v in row.items() if k != "prompt"}, label)


def read_pku(row: RawRow, label: Label) -> PreferencePair:
    """PKU-SafeRLHF: ``response_0``, ``response_1`` and the number of the one that is preferred."""
    key = f"{label}_response_id"
    if key not in row:
        raise Malformed(f"the key {key!r} is missing")
    if isinstance(row[key], bool) or row[key] not in (0, 1):
        raise Malformed(f"{key!r} must be 0 or 1, not {short(row[key])}")
    better = int(row[key])  # a column of pandas holds 1.0
    prompt, answers = _string(row, "prompt"), [_string(row, f"response_{i}") for i in (0, 1)]
    return _pair([{"role": "user", "content": prompt}], answers[better], answers[1 - better], row)


def read_hh(row: RawRow, label: Label) -> PreferencePair:
    """HH-RLHF: two transcripts that differ in the last assistant turn."""
    return _pair_of_conversations(
        None, parse_transcript(_string(row, "chosen")), parse_transcript(_string(row, "rejected")), row
    )


READERS: dict[str, Callable[[RawRow, Label], PreferencePair]] = {
    "trl": read_trl,
    "ultrafeedback": read_ultrafeedback,
    "pku-saferlhf": read_pku,
    "hh-rlhf": read_hh,
}
"""Readers by layout. Each raises :class:`Malformed` or :class:`Unusable`."""


def detect_layout(row: RawRow) -> str:
    """The layout of a data set, by the keys of its first row.

    Raises:
        Malformed: the keys fit no layout, or more than one.
    """
    if "response_0" in row and "response_1" in row:
        return "pku-saferlhf"
    if "chosen" not in row or "rejected" not in row:
        keys = ", ".join(sorted(map(str, row))) or "none"
        raise Malformed(f"no layout is known with the keys {keys}: rename them, or name it (data.format of a recipe)")
    if isinstance(row["chosen"], str) and row.get("prompt") is None:
        if _TURN.match(row["chosen"]):
            return "hh-rlhf"
        other = next((key for key in PROMPT_LIKE_KEYS if key in row), None)
        if other:
            raise Malformed(
                f"there is {other!r} but no 'prompt': rename it (or, if 'chosen' and 'rejected' begin with the "
                "prompt, set data.format: trl in the recipe)"
            )
    if isinstance(row["chosen"], list) and ("score_chosen" in row or isinstance(row.get("prompt"), str)):
        return "ultrafeedback" if len(row["chosen"]) > 1 else "trl"
    return "trl"


class PairTexts(NamedTuple):
    """A prompt and two answers that follow it."""

    prompt: str
    chosen: str
    rejected: str


def extract_prompt(chosen: str, rejected: str) -> PairTexts:
    """Split two strings into their common beginning and the rest of each, as TRL's ``extract_prompt`` does.

    A space before the first difference goes to the answers, and no answer is left empty.

    Raises:
        Unusable: they are equal, or share nothing.
    """
    if chosen == rejected:
        raise Unusable(EQUAL)
    shortest = min(len(chosen), len(rejected))
    cut = next((i for i in range(shortest) if chosen[i] != rejected[i]), shortest)
    if cut == shortest or (cut and chosen[cut - 1] == " "):
        cut -= 1
    if cut <= 0:
        raise Unusable(NO_PROMPT)
    return PairTexts(chosen[:cut], chosen[cut:], rejected[cut:])


_TURN = re.compile(r"\s*(Human|Assistant):")

_TURNS = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def parse_transcript(text: str) -> Messages:
    """Messages of a transcript: turns begin after an empty line with ``Human:`` or ``Assistant:``.

    Raises:
        Malformed: it does not begin with a turn.
    """
    first, *rest = _TURNS.split(text.lstrip("\n") if _TURN.match(text) else text)
    if first.strip() or not rest:
        raise Malformed("a transcript must begin with 'Human:' or 'Assistant:'")
    roles = ("user" if speaker == "Human" else "assistant" for speaker in rest[::2])
    return [{"role": role, "content": turn.strip()} for role, turn in zip(roles, rest[1::2], strict=True)]


def _pair_of_conversations(prompt: Any, chosen: Messages, rejected: Messages, row: RawRow) -> PreferencePair:
    """A pair from message lists: answers that follow an explicit prompt, or whole conversations."""
    if isinstance(prompt, list):
        turns = _messages(prompt, "prompt")
        chosen, rejected = [*turns, *chosen], [*turns, *rejected]
    elif isinstance(prompt, str) and len(chosen) == len(rejected) == 1:
        turn = {"role": "user", "content": prompt}
        chosen, rejected = [turn, *chosen], [turn, *rejected]
    if not chosen or not rejected:
        raise Unusable(EMPTY)
    if chosen == rejected:
        raise Unusable(EQUAL)
    shared = chosen[:-1]
    both_answers = chosen[-1]["role"] == rejected[-1]["role"] == "assistant"
    if shared != rejected[:-1] or not both_answers or not shared or shared[-1]["role"] != "user":
        raise Unusable(NO_PROMPT)
    return _pair(shared, chosen[-1]["content"], rejected[-1]["content"], row)


def _pair(prompt: Messages, chosen: str, rejected: str, row: RawRow) -> PreferencePair:
    if not any(m["content"].strip() for m in prompt if m["role"] == "user"):
        raise Unusable(NO_PROMPT)
    if not chosen.strip() or not rejected.strip():
        raise Unusable(EMPTY)
    if chosen.strip() == rejected.strip():
        raise Unusable(EQUAL)
    for text in (*[m["content"] for m in prompt], chosen, rejected):
        if has_lone_surrogate(text):
            raise Malformed(f"the text holds {LONE_SURROGATE}")
    return PreferencePair(prompt, chosen, rejected, _score(row, "score_chosen"), _score(row, "score_rejected"))


def _field(row: RawRow, key: str) -> str | list[Any]:
    if key not in row:
        raise Malformed(f"the key {key!r} is missing")
    value = row[key]
    if not isinstance(value, str | list):
        raise Malformed(f"{key!r} must be a string or a list of messages, not {type(value).__name__}")
    return value


def _string(row: RawRow, key: str) -> str:
    if key not in row:
        raise Malformed(f"the key {key!r} is missing")
    if not isinstance(row[key], str):
        raise Malformed(f"{key!r} must be a string, not {type(row[key]).__name__}")
    return cast(str, row[key])


def _messages(value: Any, key: str) -> Messages:
    for index, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise Malformed(f"{key!r}, message {index}: an object with a 'role' and a text as 'content' is expected")
        if message.get("role") not in ROLES:
            raise Malformed(f"{key!r}, message {index}: the role {message.get('role')!r} is none of {', '.join(ROLES)}")
    return [{"role": m["role"], "content": m["content"]} for m in value]


def _score(row: RawRow, key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer beyond all floats
        pass
    raise Malformed(f"{key!r} must be a finite number, not {short(value)}")
