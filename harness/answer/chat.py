"""Conversations: their messages, and their token ids by a model's own chat template."""

from __future__ import annotations

from typing import Any

Messages = list[dict[str, str]]
"""Turns of a conversation, each with ``role`` and ``content``."""

Prompt = dict[str, Any]
"""A prompt row: ``id``, ``prompt`` (text), ``messages`` if it has several turns, and what the task adds."""


def conversation_text(tokenizer: Any, messages: Messages, *, opened: bool) -> str:
    """A conversation as the model's own chat template writes it; ``opened``: with the assistant's turn opened."""
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=opened, tokenize=False))


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that a chat template wrote: nothing is added to it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def render(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of a conversation with the assistant's turn opened, by the model's own chat template."""
    return text_ids(tokenizer, conversation_text(tokenizer, messages, opened=True))


def takes_system(tokenizer: Any) -> bool:
    """Whether the chat template writes a system turn (some raise an error, some leave it out)."""
    turns = [{"role": "system", "content": "Is this system turn written?"}, {"role": "user", "content": "y"}]
    try:
        text = conversation_text(tokenizer, turns, opened=True)
    except Exception:  # noqa: BLE001 - templates raise many kinds of errors
        return False
    return turns[0]["content"] in text


def messages_of(prompt: Prompt) -> Messages:
    """The conversation that a prompt stands for: its ``messages``, else one turn of the user."""
    messages: Messages = prompt.get("messages") or [{"role": "user", "content": prompt["prompt"]}]
    return messages
