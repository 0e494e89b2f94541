"""The check of a chat template before the first token: a faulty one changes every score and shows in none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.answer.answer_ids import TURNS, common_length, ending_between_turns
from harness.answer.chat import Messages, conversation_text, render, text_ids
from harness.answer.final_answer import is_blank, without_opened_block
from harness.answer.model_files import NO_TEMPLATE
from harness.errors import UserError, error_of


def check_template(tokenizer: Any, eos_ids: Sequence[int]) -> None:
    """Raise an error if the chat template does not suit dialogues with this model.

    Args:
        tokenizer: has the template.
        eos_ids: ids that end an answer of the model.

    Raises:
        UserError: names the fault, shows the ids or the text, and says how to fix it.
    """
    if not tokenizer.chat_template:
        raise error_of([NO_TEMPLATE])
    for messages in (TURNS[:1], TURNS):
        _check_contents(tokenizer, messages)
    _check_opening(tokenizer)
    _check_ending(tokenizer, eos_ids)


def _check_opening(tokenizer: Any) -> None:
    """BOS is written at most once, and the opened prompt is where an answer goes on: nothing but white space or a
    thinking block without thoughts stands between, or at the end of the opened prompt alone."""
    opened, finished = _write(tokenizer, TURNS[:1], opened=True), _write(tokenizer, TURNS[:2], opened=False)
    ids = render(tokenizer, TURNS[:1])
    if tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2:
        raise UserError(f"The chat template writes BOS twice (ids {ids[:4]}): remove it from the template")
    before, answer, _ = finished.partition(TURNS[1]["content"])
    if not answer:
        raise UserError(
            f"The chat template leaves out a last turn of the assistant (it ends with {finished[-160:]!r}): it must "
            "write one, since pairs are trained on conversations that end with an answer"
        )
    prompt = opened if before.startswith(opened) else without_opened_block(opened)
    if not before.startswith(prompt):
        shared = common_length(before, prompt)
        raise UserError(
            f"The chat template opens an answer with {prompt[shared:]!r} where a finished conversation has "
            f"{before[shared:]!r}: it must write both alike up to the answer's text"
        )
    missing = before.removeprefix(prompt)
    if is_blank(missing):
        return
    if opened == _write(tokenizer, TURNS[:1], opened=False):
        raise UserError(
            f"The chat template ignores add_generation_prompt: it must open the answer with {missing!r}, with which it "
            "begins a finished one"
        )
    raise UserError(
        f"The chat template opens an answer without {missing!r}, with which it begins a finished one: it must write "
        "that if add_generation_prompt is set"
    )


def _check_contents(tokenizer: Any, messages: Messages) -> None:
    """Each turn's text is written once, in order."""
    text, position = _write(tokenizer, messages, opened=True), 0
    excerpt = f"(it ends with {text[-160:]!r})"
    for number, turn in enumerate(messages, 1):
        turn_name = f"turn {number} ({turn['role']}) of {len(messages)}"
        count = text.count(turn["content"])
        if count == 0:
            raise UserError(
                f"The chat template leaves out {turn_name} {excerpt}: it must write the roles 'user' and "
                "'assistant', and all turns of a dialogue"
            )
        if count > 1:
            raise UserError(
                f"The chat template writes {turn_name} {count} times {excerpt}: it must write each turn once"
            )
        if text.index(turn["content"]) < position:
            raise UserError(
                f"The chat template writes {turn_name} before an earlier one {excerpt}: it must keep their order"
            )
        position = text.index(turn["content"])


def _check_ending(tokenizer: Any, eos_ids: Sequence[int]) -> None:
    """A finished turn of the assistant is followed by an id that ends an answer."""
    if not eos_ids:
        raise UserError("The model names no token that ends an answer: set eos_token_id in its generation_config.json")
    text = _write(tokenizer, TURNS[:2], opened=False)
    after = text.rpartition(TURNS[1]["content"])[2]
    ids = text_ids(tokenizer, after) if after else []
    if set(ids) & set(eos_ids) or ending_between_turns(tokenizer, eos_ids):
        return
    eos_tokens = ", ".join(repr(token) for token in tokenizer.convert_ids_to_tokens(list(eos_ids)))
    raise UserError(
        f"The chat template ends an assistant's turn with {after!r} (ids {ids}), and none of these ends an answer "
        f"of this model (eos_token_id {list(eos_ids)}: {eos_tokens}), so that answers would not stop where the "
        "turn does: add the id to eos_token_id in the model's generation_config.json, or end the turn with "
        "eos_token in the template"
    )


def _write(tokenizer: Any, messages: Messages, opened: bool) -> str:
    try:
        return conversation_text(tokenizer, messages, opened=opened)
    except Exception as error:  # noqa: BLE001 - templates raise many kinds of errors
        reason = " ".join(str(error).split())[:200]
        last = "" if opened else " and an answer last"
        raise UserError(
            f"The chat template cannot write a dialogue of {len(messages)} turns, the user first{last} ({reason}): "
            "fix it"
        ) from None
