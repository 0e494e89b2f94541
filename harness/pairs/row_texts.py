"""Texts, messages, scores and columns of one raw row, each checked. Pure.

What would change the meaning of a row and is not used here is refused by name. An empty value means that it is absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from harness.answer.chat import Messages
from harness.pairs.overlap import normalised
from harness.store.user_files import Malformed

RawRow = Mapping[str, Any]
"""A row as its file holds it."""

ROLES = ("system", "user", "assistant")

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
"""Roles of a message with ``from`` and ``value`` that have another name here."""

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
"""Columns that hold the system turn of a row."""

REFUSED_COLUMNS = (
    *("tools", "functions", "documents", "history", "chat_template_kwargs", "enable_thinking"),
    *("continue_final_message", "add_generation_prompt"),
    *("image", "images", "video", "videos", "audio", "audios"),
)
"""Columns that are part of what a model reads, and that nothing here passes on."""

_NO_CHANGE = {"continue_final_message": ("false", "0", "0.0"), "add_generation_prompt": ("true", "1", "1.0")}
"""Values of such columns that say what is done anyway."""

PROMPT_COLUMNS = {"input": "at the end of", "instruction": "at the beginning of", "context": "into"}
"""Columns that must be part of the prompt, and where they belong."""

_COUNTED = ("weight", "train", "loss")
"""Keys of a message that say whether it counts in training; 1 and true do."""

REFUSED_KEYS = {
    "tool_calls": "leave out rows with tool use",
    "tool_call_id": "leave out rows with tool use",
    "function_call": "leave out rows with tool use",
    "reasoning_content": "write the reasoning into 'content' as the chat template does, or remove the key",
    "reasoning": "write the reasoning into 'content' as the chat template does, or remove the key",
    "thinking": "write the reasoning into 'content' as the chat template does, or remove the key",
    "name": "write the name into 'content', or remove the key",
    **dict.fromkeys(_COUNTED, "leave out the turns or rows that should not count, and remove the key"),
    **dict.fromkeys(("image", "images", "video", "audio"), "leave out rows that are not text alone"),
}
"""Keys of a message that nothing here passes on, with the cure."""

_ROLE_CURES = {
    "developer": "write system for developer",
    "human": "write user for human",
    "gpt": "write assistant for gpt",
    "model": "write assistant for model",
    **dict.fromkeys(("tool", "function", "observation", "function_call", "ipython"), "leave out rows with tool use"),
}

_WRITTEN_MESSAGES = re.compile(r"\s*\[\s*\{\s*(['\"])(?:role|content|from|value)\1\s*:")


def is_absent(value: Any) -> bool:
    """Whether a value says nothing: null, an empty text or container (also as JSON text), or a container of such values
    only, as Parquet writes keys that only other rows have."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null")
    if isinstance(value, Mapping):
        return all(map(is_absent, value.values()))
    return isinstance(value, list | tuple) and all(map(is_absent, value))


def has_no_prompt(value: Any) -> bool:
    """Whether a ``prompt`` is absent. A text such as ``[]`` or ``null`` is a prompt."""
    return not value.strip() if isinstance(value, str) else is_absent(value)


def reads_as_messages(text: str) -> bool:
    """Whether a text is a list of messages, written as JSON or as Python prints it."""
    return _WRITTEN_MESSAGES.match(text) is not None


def text_or_messages(row: RawRow, key: str) -> str | list[Any]:
    """A text, or a list of raw messages; one message alone is a list of one.

    Raises:
        Malformed: it is missing or something else.
    """
    if key not in row:
        raise Malformed(f"the key {key!r} is missing")
    value = row[key]
    if isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()):
        return [value]
    if not isinstance(value, str | list):
        raise Malformed(f"{key!r} must be a string or a list of messages, not {type(value).__name__}")
    if isinstance(value, str) and reads_as_messages(value):
        raise Malformed(f"{key!r} is a list of messages written as one text: store the list itself (json.loads)")
    return value


def plain_text(row: RawRow, key: str) -> str:
    """A text.

    Raises:
        Malformed: it is missing or something else.
    """
    if key not in row:
        raise Malformed(f"the key {key!r} is missing")
    if not isinstance(row[key], str):
        raise Malformed(f"{key!r} must be a string, not {type(row[key]).__name__}")
    return cast(str, row[key])


def parse_messages(value: list[Any], key: str) -> Messages:
    """Messages with ``role`` and ``content`` only, from ``{role, content}`` or ShareGPT's ``{from, value}``.

    Raises:
        Malformed: one is no message, its role is unknown, or it holds what nothing here passes on.
    """
    return [_parse_message(message, f"{key!r}, message {index}") for index, message in enumerate(value)]


def _parse_message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise Malformed(f"{where}: an object with a 'role' and a text as 'content' is expected")
    for key, cure in REFUSED_KEYS.items():
        if not is_absent(message.get(key)) and not (key in _COUNTED and message[key] == 1):
            raise Malformed(f"{where}: {key!r} changes what the row means and is not used here: {cure}")
    role, content = message.get("role"), message.get("content")
    if is_absent(role) and "from" in message:
        role, content = message["from"], message.get("value")
        role = SHAREGPT_ROLES.get(str(role), role)
    content = _joined_parts(content, where)
    if role not in ROLES:
        instead = _ROLE_CURES.get(str(role), "")
        if instead or isinstance(content, str):
            ending = f": {instead}" if instead else ""
            raise Malformed(f"{where}: the role {role!r} is none of {', '.join(ROLES)}{ending}")
    if not isinstance(content, str):
        raise Malformed(f"{where}: an object with a 'role' and a text as 'content' is expected")
    return {"role": cast(str, role), "content": content}


def _joined_parts(content: Any, where: str) -> Any:
    """The text of a content that is a list of parts; any other content as it is."""
    if not isinstance(content, list):
        return content
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise Malformed(
                f"{where}: 'content' holds a part of type {kind!r}, and only text is read: leave out such rows"
            )
    return "".join(part["text"] for part in content)


def system_turn(row: RawRow) -> str | None:
    """The system turn that a row holds in a column of its own.

    Raises:
        Malformed: it is no text, or two columns differ.
    """
    texts = {key: plain_text(row, key) for key in SYSTEM_COLUMNS if not is_absent(row.get(key))}
    if len({text.strip() for text in texts.values()}) > 1:
        raise Malformed(f"the columns {' and '.join(map(repr, texts))} hold different system turns: keep one")
    return next(iter(texts.values()), None)


def refuse_unused_context(row: RawRow, prompt: str) -> None:
    """Refuse columns that are part of what a model reads and that nothing here passes on.

    Args:
        row: the raw row.
        prompt: all text of the prompt. Columns ``input``, ``instruction`` and ``context`` that are in it already are no
            matter.

    Raises:
        Malformed: such a column is not empty.
    """
    for key in REFUSED_COLUMNS:
        value = row.get(key)
        if not is_absent(value) and str(value).strip().lower() not in _NO_CHANGE.get(key, ()):
            raise Malformed(
                f"the column {key!r} changes what the row means and is not used here: leave out the rows that have it, "
                "or remove the column if the answers do not depend on it"
            )
    for key, place in PROMPT_COLUMNS.items():
        if not is_absent(row.get(key)) and not _is_within(row[key], prompt):
            raise Malformed(f"the column {key!r} is not in the prompt: write it {place} 'prompt', or remove the column")


def _is_within(value: Any, prompt: str) -> bool:
    """Whether a text, or the texts of some messages, are in a prompt."""
    if isinstance(value, str):
        return normalised(value) in normalised(prompt)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return False
    texts = [m.get("content", m.get("value")) if isinstance(m, Mapping) else m for m in value]
    return all(isinstance(text, str) and _is_within(text, prompt) for text in texts)


def unused_columns(row: RawRow, used: set[str]) -> Iterator[str]:
    """Names of the columns with a value that nothing reads, and of such keys of messages (``chosen[].id``).

    Args:
        row: the raw row.
        used: the columns that the row's layout reads.
    """
    context = {*SYSTEM_COLUMNS, *REFUSED_COLUMNS}
    for key, value in row.items():
        if key in used:
            for message in value if isinstance(value, list) else [value]:
                if isinstance(message, Mapping):
                    read_keys = {*(("from", "value") if "from" in message else ("role", "content")), *REFUSED_KEYS}
                    yield from (f"{key}[].{k}" for k, v in message.items() if k not in read_keys and not is_absent(v))
        elif key not in context and not is_absent(value):
            yield key or "(no name)"
