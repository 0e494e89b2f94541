"""Layouts of preference data: a row of a file becomes one :class:`PreferencePair`. Pure; nothing is read here.

``trl``: TRL's standard and conversational formats, the prompt explicit or implicit; ``ultrafeedback``: message lists
that hold the prompt, with scores; ``pku-saferlhf``: two responses and the number of the better (or the safer) one;
``hh-rlhf``: transcripts of ``Human:`` and ``Assistant:`` turns; ``sharegpt``: ``conversations`` and two answers;
``openai``: ``input``, ``preferred_output``, ``non_preferred_output``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from reprlib import repr as short
from typing import Any, Literal, NamedTuple

from harness.answer.chat import Messages
from harness.pairs.implicit_prompt import refuse_prompt_elsewhere
from harness.pairs.repeated_prompt import REPEATED, join_text, join_turns, without_prompt
from harness.pairs.row_labels import LABEL_COLUMNS, answer_scores, label_of_row
from harness.pairs.row_texts import (
    PROMPT_COLUMNS,
    RawRow,
    has_no_prompt,
    is_absent,
    parse_messages,
    plain_text,
    refuse_unused_context,
    system_turn,
    text_or_messages,
    unused_columns,
)
from harness.pairs.unread_layouts import describe_unread_layout
from harness.store.user_files import LONE_SURROGATE, Malformed, has_lone_surrogate

Label = Literal["better", "safer"]
"""Which of PKU-SafeRLHF's two preferences counts."""

NO_PROMPT, EMPTY, EQUAL = "no shared prompt", "empty answers", "equal answers"
LAST_TURN = "prompts that do not end with a turn of the user"
TIE = "ties by their own label"
SYSTEM_USED = "take their system turn from a column of its own"
TRANSCRIPT = "hold 'Human:' and 'Assistant:' turns within one turn of the user"


@dataclass(frozen=True)
class PreferencePair:
    """A prompt (messages, the last one of the user) and two answers to it, with their scores if known.

    ``notes`` say what was done to the row that is worth a count; they are no part of its content.
    """

    prompt: Messages
    chosen: str
    rejected: str
    chosen_score: float | None = None
    rejected_score: float | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def content(self) -> dict[str, Any]:
        """What identifies the pair, as JSON."""
        return {key: value for key, value in vars(self).items() if key != "notes"}

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


class _Keys(NamedTuple):
    """Where a layout of TRL's kind has the prompt and the two answers."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"


_SHAREGPT = _Keys(prompt="conversations")
_OPENAI = _Keys("input", "preferred_output", "non_preferred_output")


def read_trl(row: RawRow, label: Label) -> PreferencePair:
    """TRL's preference formats: strings or message lists, with or without a ``prompt``."""
    return _read(row, _Keys())


def read_sharegpt(row: RawRow, label: Label) -> PreferencePair:
    """ShareGPT's messages: ``conversations`` is the prompt, ``chosen`` and ``rejected`` follow it."""
    return _read(row, _SHAREGPT)


def read_openai(row: RawRow, label: Label) -> PreferencePair:
    """OpenAI's preference format: ``input`` holds ``messages`` and perhaps ``tools``."""
    given = row.get("input")
    if not isinstance(given, dict) or "messages" not in given:
        raise Malformed("'input' must be an object with 'messages'")
    return _read({**row, "tools": [row.get("tools"), given.get("tools")], "input": given["messages"]}, _OPENAI)


def _read(row: RawRow, keys: _Keys) -> PreferencePair:
    chosen, rejected = text_or_messages(row, keys.chosen), text_or_messages(row, keys.rejected)
    prompt = None if has_no_prompt(row.get(keys.prompt)) else text_or_messages(row, keys.prompt)
    rest = {k: v for k, v in row.items() if k not in keys}
    if isinstance(chosen, list) and isinstance(rejected, list):
        turns = prompt if isinstance(prompt, str) else parse_messages(prompt or [], keys.prompt)
        chosen, rejected = parse_messages(chosen, keys.chosen), parse_messages(rejected, keys.rejected)
        return _pair_of_conversations(turns, chosen, rejected, rest)
    if isinstance(chosen, list) or isinstance(rejected, list):
        raise Malformed(
            f"{keys.chosen!r} and {keys.rejected!r} must be of one kind, both strings or both lists of messages"
        )
    if isinstance(prompt, list):
        if keys is not _SHAREGPT:
            raise Malformed(
                f"{keys.prompt!r} is a list of messages, so {keys.chosen!r} and {keys.rejected!r} must be lists too"
            )
        return _pair(parse_messages(prompt, keys.prompt), chosen, rejected, rest)
    if prompt is None:
        if keys != _Keys():
            raise Unusable(NO_PROMPT)
        prompt, chosen, rejected = extract_prompt(chosen, rejected)
    return _pair([{"role": "user", "content": prompt}], chosen, rejected, rest)


def read_ultrafeedback(row: RawRow, label: Label) -> PreferencePair:
    """UltraFeedback binarized: ``chosen`` and ``rejected`` are message lists with the prompt in front."""
    for key in ("chosen", "rejected"):
        if not isinstance(text_or_messages(row, key), list):
            raise Malformed(f"{key!r} must be a list of messages, not {type(row[key]).__name__}")
    return read_trl(row, label)


def read_pku(row: RawRow, label: Label) -> PreferencePair:
    """PKU-SafeRLHF: ``response_0``, ``response_1`` and the number of the one that is preferred."""
    key = f"{label}_response_id"
    if key not in row:
        raise Malformed(f"the key {key!r} is missing")
    if isinstance(row[key], bool) or row[key] not in (0, 1):
        raise Malformed(f"{key!r} must be 0 or 1, not {short(row[key])}")
    better = int(row[key])  # a column of pandas holds 1.0
    if row.get("prompt", "") is None:
        raise Unusable(NO_PROMPT)
    prompt, answers = plain_text(row, "prompt"), [plain_text(row, f"response_{i}") for i in (0, 1)]
    return _pair([{"role": "user", "content": prompt}], answers[better], answers[1 - better], row)


def read_hh(row: RawRow, label: Label) -> PreferencePair:
    """HH-RLHF: two transcripts that differ in the last assistant turn. Their beginning may be in a ``prompt``, alone or
    once more."""
    chosen, rejected = plain_text(row, "chosen"), plain_text(row, "rejected")
    if is_absent(row.get("prompt")):
        return _pair_of_conversations([], parse_transcript(chosen), parse_transcript(rejected), row)
    prompt = plain_text(row, "prompt").strip()
    if _HUMAN.match(chosen) and _HUMAN.match(rejected):
        repeated = chosen.strip().startswith(prompt) and rejected.strip().startswith(prompt)
        text = "" if repeated else prompt
        notes = (REPEATED,) if repeated else ()
        return _pair_of_conversations(text, parse_transcript(chosen), parse_transcript(rejected), row, notes)
    turns = parse_transcript(prompt)
    if turns[-1] == {"role": "assistant", "content": ""}:
        turns.pop()
    answers = [_TURN.sub("", text, count=1) if _TURN.match(text) else text for text in (chosen, rejected)]
    return _pair(turns, answers[0].strip(), answers[1].strip(), row)


READERS: dict[str, Callable[[RawRow, Label], PreferencePair]] = {
    "trl": read_trl,
    "ultrafeedback": read_ultrafeedback,
    "pku-saferlhf": read_pku,
    "hh-rlhf": read_hh,
    "sharegpt": read_sharegpt,
    "openai": read_openai,
}
"""Readers by layout. Each raises :class:`Malformed` or :class:`Unusable`."""


def detect_layout(row: RawRow) -> str:
    """The layout of a data set, by the keys of its first row.

    Raises:
        Malformed: the keys fit no layout, or more than one.
    """
    if "response_0" in row and "response_1" in row:
        return "pku-saferlhf"
    if "preferred_output" in row and "non_preferred_output" in row:
        return "openai"
    if "chosen" not in row or "rejected" not in row:
        raise Malformed(describe_unread_layout(row))
    if "conversations" in row and is_absent(row.get("prompt")):
        return "sharegpt"
    chosen, prompt = row["chosen"], row.get("prompt")
    if isinstance(chosen, str) and isinstance(row["rejected"], str) and is_transcript(prompt, chosen, row["rejected"]):
        return "hh-rlhf"
    refuse_prompt_elsewhere(row)
    if isinstance(chosen, list) and ("score_chosen" in row or isinstance(prompt, str)):
        return "ultrafeedback" if len(chosen) > 1 else "trl"
    return "trl"


def is_transcript(prompt: Any, chosen: str, rejected: str) -> bool:
    """Whether a row is a transcript: an answer without a prompt, both answers beside a prompt, or the prompt.

    Args:
        prompt: what the row holds as its prompt, None if nothing.
        chosen: the better answer.
        rejected: the worse answer.
    """
    answers = (chosen, rejected)
    if has_no_prompt(prompt):
        return any(map(_TURN.match, answers))
    if all(map(_HUMAN.match, answers)):
        return True
    opened = isinstance(prompt, str) and _HUMAN.match(prompt) is not None
    return opened and (prompt.rstrip().endswith("\n\nAssistant:") or all(map(_TURN.match, answers)))


_USED_BY = {
    "pku-saferlhf": {"prompt", "response_0", "response_1"},
    "sharegpt": {*_SHAREGPT},
    "openai": {*_OPENAI},
}


def columns_not_used(row: RawRow, layout: str, label: Label) -> set[str]:
    """Columns of a row with a value that its layout does not read, and such keys of its messages.

    Args:
        row: the raw row.
        layout: its layout.
        label: which of PKU-SafeRLHF's two preferences counts.
    """
    used = {"id", *answer_scores(row).columns, *_USED_BY.get(layout, _Keys())}
    if label_of_row(row) is not None:
        used |= {*LABEL_COLUMNS}
    if layout == "pku-saferlhf":
        used.add(f"{label}_response_id")
    given = row.get("input")
    if layout == "openai" and isinstance(given, dict):
        rest = {f"input.{k}" for k, v in given.items() if k not in ("messages", "tools") and not is_absent(v)}
        return rest | set(unused_columns({**row, "input": given.get("messages")}, used))
    return set(unused_columns(row, used)) - {*PROMPT_COLUMNS}  # they are refused, or part of the prompt


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

_HUMAN = re.compile(r"\s*Human:")

_ANSWERED = re.compile(r"\n\nAssistant:")

_TURNS = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def parse_transcript(text: str) -> Messages:
    """Messages of a transcript: turns begin after an empty line with ``Human:`` or ``Assistant:``.

    Raises:
        Malformed: it does not begin with a turn.
    """
    first, *rest = _TURNS.split(text.lstrip("\n") if _TURN.match(text) else text)
    if first.strip() or not rest:
        raise Malformed(
            "a transcript must begin with 'Human:' or 'Assistant:': correct the row, or set data.format: trl in the "
            "recipe if these are plain texts"
        )
    roles = ("user" if speaker == "Human" else "assistant" for speaker in rest[::2])
    return [{"role": role, "content": turn.strip()} for role, turn in zip(roles, rest[1::2], strict=True)]


def _pair_of_conversations(
    prompt: str | Messages, chosen: Messages, rejected: Messages, row: RawRow, notes: tuple[str, ...] = ()
) -> PreferencePair:
    """A pair from message lists: answers that follow an explicit prompt, or whole conversations."""
    if not chosen or not rejected:
        raise Unusable(EMPTY)
    if prompt:
        joined = (
            join_text(prompt, chosen, rejected) if isinstance(prompt, str) else join_turns(prompt, chosen, rejected)
        )
        chosen, rejected, notes = joined.chosen, joined.rejected, (*notes, *joined.notes)
    if chosen == rejected:
        raise Unusable(EQUAL)
    shared = chosen[:-1]
    both_answers = chosen[-1]["role"] == rejected[-1]["role"] == "assistant"
    if shared != rejected[:-1] or not both_answers or not shared:
        raise Unusable(NO_PROMPT)
    return _pair(shared, chosen[-1]["content"], rejected[-1]["content"], row, notes)


def _pair(prompt: Messages, chosen: str, rejected: str, row: RawRow, notes: tuple[str, ...] = ()) -> PreferencePair:
    system = system_turn(row)
    refuse_unused_context(row, "\n".join([*(m["content"] for m in prompt), system or ""]))
    if not any(m["content"].strip() for m in prompt if m["role"] == "user"):
        raise Unusable(NO_PROMPT)
    if prompt[-1]["role"] != "user":
        raise Unusable(LAST_TURN)
    if label_of_row(row) == "tie":
        raise Unusable(TIE)
    chosen, rejected, more = without_prompt(prompt[-1]["content"], chosen, rejected)
    if not chosen.strip() or not rejected.strip():
        raise Unusable(EMPTY)
    if chosen.strip() == rejected.strip():
        raise Unusable(EQUAL)
    for text in (*[m["content"] for m in prompt], chosen, rejected):
        if has_lone_surrogate(text):
            raise Malformed(f"the text holds {LONE_SURROGATE}")
    if any(_HUMAN.match(m["content"]) and _ANSWERED.search(m["content"]) for m in prompt if m["role"] == "user"):
        more = (*more, TRANSCRIPT)
    if system is not None:
        prompt, more = _with_system(prompt, system), (*more, SYSTEM_USED)
    scores = answer_scores(row)
    kept = tuple(dict.fromkeys((*notes, *more)))
    return PreferencePair(prompt, chosen, rejected, scores.chosen, scores.rejected, kept)


def _with_system(prompt: Messages, system: str) -> Messages:
    """The prompt with a system turn in front."""
    if prompt[0]["role"] != "system":
        return [{"role": "system", "content": system}, *prompt]
    if prompt[0]["content"].strip() != system.strip():
        raise Malformed("a system column and the first message are two different system turns: keep one")
    return prompt
