"""The chat template is checked before the first token: a fault there changes every score and shows in none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.answer.chat import Messages, render
from harness.errors import UserError
from harness.store.json_files import read_json

TURNS: Messages = [
    {"role": "user", "content": "Is the first turn here?"},
    {"role": "assistant", "content": "It stands before the next."},
    {"role": "user", "content": "Then what about this one?"},
]


def eos_ids(folder: Path, tokenizer: Any) -> list[int]:
    """Ids that end an answer of the model saved in ``folder``: those of its generation or model config, else the
    tokenizer's. May be empty."""
    for name in ("generation_config.json", "config.json"):
        found = read_json(folder / name).get("eos_token_id") if (folder / name).is_file() else None
        if found is not None:
            return list(found) if isinstance(found, list) else [found]
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def check_template(tokenizer: Any, ends: Sequence[int]) -> None:
    """Fail before the first token if the chat template is not fit for dialogues with this model.

    Args:
        ends: ids that end an answer.

    Raises:
        UserError: names the fault, shows the ids or the text, and says what mends it.
    """
    if not tokenizer.chat_template:
        raise UserError(
            "The start policy's tokenizer has no chat template: save one with the model, or set 'chat_template:' in "
            "the recipe to a Jinja file or fastchat:NAME"
        )
    for messages in (TURNS[:1], TURNS):
        _check_contents(tokenizer, messages)
    _check_opening(tokenizer)
    _check_ending(tokenizer, ends)


def _check_opening(tokenizer: Any) -> None:
    """BOS once at most, and an assistant's turn opened."""
    ids = render(tokenizer, TURNS[:1])
    if tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2:
        raise UserError(f"The chat template writes BOS twice (ids {ids[:4]}): remove it from the template")
    closed = tokenizer.apply_chat_template(TURNS[:1], add_generation_prompt=False, return_dict=True)["input_ids"]
    if len(ids) <= len(closed):
        raise UserError(f"The chat template ignores add_generation_prompt (ids {ids[-4:]}): it must open the answer")


def _check_contents(tokenizer: Any, messages: Messages) -> None:
    """Each turn's text once, in order."""
    text, place = _written(tokenizer, messages, opened=True), 0
    shown = f"(it ends with {text[-160:]!r})"
    for number, turn in enumerate(messages, 1):
        what = f"turn {number} ({turn['role']}) of {len(messages)}"
        count = text.count(turn["content"])
        if count == 0:
            raise UserError(
                f"The chat template leaves out {what} {shown}: it must write the roles 'user' and 'assistant', and all "
                "turns of a dialogue"
            )
        if count > 1:
            raise UserError(f"The chat template writes {what} {count} times {shown}: it must write each turn once")
        if text.index(turn["content"]) < place:
            raise UserError(f"The chat template writes {what} before an earlier one {shown}: it must keep their order")
        place = text.index(turn["content"])


def _check_ending(tokenizer: Any, ends: Sequence[int]) -> None:
    """An id that ends an answer after a finished assistant's turn."""
    if not ends:
        raise UserError("The model names no token that ends an answer: set eos_token_id in its generation_config.json")
    text = _written(tokenizer, TURNS[:2], opened=False)
    after = text[text.rindex(TURNS[1]["content"]) + len(TURNS[1]["content"]) :]
    ids = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    if not set(ids) & set(ends):
        known = ", ".join(repr(token) for token in tokenizer.convert_ids_to_tokens(list(ends)))
        raise UserError(
            f"The chat template ends an assistant's turn with {after!r} (ids {ids}), and none of these ends an answer "
            f"of this model (eos_token_id {list(ends)}: {known}), so that answers would not stop where the turn does: "
            "add the id to eos_token_id in the model's generation_config.json, or end the turn with eos_token in the "
            "template"
        )


def _written(tokenizer: Any, messages: Messages, opened: bool) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=opened, tokenize=False))
    except Exception as error:  # noqa: BLE001 - templates raise what they like
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"The chat template cannot write a dialogue of {len(messages)} turns, the user first ({reason}): mend it"
        ) from None
