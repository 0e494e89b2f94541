"""What a model must pass when it is made or loaded, before any work rests on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.answer.answer_ids import TURNS
from harness.answer.chat import render
from harness.answer.sampler_check import check_sampler
from harness.answer.template_check import check_template
from harness.errors import UserError
from sail.sampling import end_ids

USED_TOKENS = ("pad_token", "eos_token", "bos_token", "unk_token")
"""Special tokens that batches, answers and prompts may hold."""


def check_start(name: str, model: Any, tokenizer: Any) -> None:
    """Refuse a start policy whose tokenizer, chat template or sampling would spoil every score.

    Args:
        name: the recipe's ``model``, for the sentence.
        model: the causal language model.
        tokenizer: its tokenizer, with its chat template.

    Raises:
        UserError: names the fault and the fix.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(f"The tokenizer of {name} has no end-of-sequence token: set eos_token and save it")
    ends = end_ids(model, tokenizer)
    check_special_ids(name, model, tokenizer)
    _check_inside(name, model, _tokens(tokenizer, ends), "eos_token_id holds")
    check_template(tokenizer, ends)
    _check_inside(name, model, _tokens(tokenizer, render(tokenizer, TURNS)), "its chat template writes")
    check_sampler(model, tokenizer, ends)


def check_special_ids(name: str, model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer whose special tokens have no embedding.

    So are words that were added to the tokenizer alone. Other special tokens are left alone: tokenizers of text models
    hold such tokens for images, and :class:`harness.answer.policy.Policy` refuses a text that holds one.

    Args:
        name: of the model, for the sentence.
        model: of transformers.
        tokenizer: its tokenizer.

    Raises:
        UserError: names the token, its id and the fix.
    """
    for kind in USED_TOKENS:
        token_id = getattr(tokenizer, f"{kind}_id")
        if token_id is not None:
            _check_inside(name, model, {token_id: getattr(tokenizer, kind)}, f"its {kind} is")
    words = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if not token.special}
    _check_inside(name, model, words, "its tokenizer has the added word")


def _tokens(tokenizer: Any, ids: Sequence[int]) -> dict[int, str | None]:
    """Tokens by id."""
    return dict(zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True))


def _check_inside(name: str, model: Any, tokens: Mapping[int, str | None], role: str) -> None:
    """Every id has a row in the embeddings."""
    rows = model.get_input_embeddings().weight.shape[0]
    outside = next((i for i in tokens if i >= rows), None)
    if outside is not None:
        raise UserError(
            f"The model {name} has {rows} embeddings, and {role} {tokens[outside]!r} with the id {outside}: call "
            "model.resize_token_embeddings(len(tokenizer)) and save it, or choose a token with an embedding"
        )
