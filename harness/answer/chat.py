"""Conversations: their messages, and their token ids by a model's own chat template."""

from __future__ import annotations

from typing import Any

Messages = list[dict[str, str]]


def render(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of a conversation with the assistant's turn opened, by the model's own chat template."""
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    return ids


def takes_system(tokenizer: Any) -> bool:
    """Whether the chat template writes a system turn (some raise, some leave it out)."""
    turns = [{"role": "system", "content": "Is this system turn written?"}, {"role": "user", "content": "y"}]
    try:
        written = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except Exception:  # noqa: BLE001 - templates raise what they like
        return False
    return turns[0]["content"] in written


Prompt = dict[str, Any]


def turns(prompt: Prompt) -> list[dict[str, str]]:
    """The conversation that a prompt stands for: its ``messages``, else one turn of the user."""
    found: list[dict[str, str]] = prompt.get("messages") or [{"role": "user", "content": prompt["prompt"]}]
    return found
