"""Conversations: their messages, and their token ids by a model's own chat template."""

from __future__ import annotations

from typing import Any

Messages = list[dict[str, str]]
"""Turns of a conversation, each with ``role`` and ``content``."""

Prompt = dict[str, Any]
"""A prompt row: ``id``, ``prompt`` (text), ``messages`` if it has several turns, and what the task adds."""


def render(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of a conversation with the assistant's turn opened, by the model's own chat template."""
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    return ids


def takes_system(tokenizer: Any) -> bool:
    """Whether the chat template writes a system turn (some raise an error, some leave it out)."""
    turns = [{"role": "system", "content": "Is this system turn written?"}, {"role": "user", "content": "y"}]
    try:
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except Exception:  # noqa: BLE001 - templates raise many kinds of errors
        return False
    return turns[0]["content"] in text


def messages_of(prompt: Prompt) -> Messages:
    """The conversation that a prompt stands for: its ``messages``, else one turn of the user."""
    messages: Messages = prompt.get("messages") or [{"role": "user", "content": prompt["prompt"]}]
    return messages


def eos_ids(configured: int | list[int] | None, tokenizer: Any) -> list[int]:
    """Ids that end an answer. May be empty.

    Args:
        configured: ``eos_token_id`` of the model's generation configuration: one id or several.
        tokenizer: its end-of-sequence id counts if the model's configuration names none.
    """
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        return []
    return list(configured) if isinstance(configured, list) else [configured]
