"""How many tokens a model holds, and the refusal of a sequence that is longer."""

from __future__ import annotations

from typing import Any

from harness.errors import Problem, UserError
from sail.rotary import constant_rotary_length

UNBOUNDED = 10**9

OFFSET_POSITIONS = ("roberta", "camembert", "longformer", "mpnet")
"""Kinds of models whose first position is not 0 but follows the id of the padding."""


def window_of(config: Any) -> int:
    """Most tokens of a sequence, by a model's configuration; :data:`UNBOUNDED` if it names no limit.

    A model whose rotary factors change with the longest sequence of a batch holds no more than up to that change.
    """
    inner = config.get_text_config()
    positions = getattr(inner, "max_position_embeddings", None)
    if not positions or positions < 0:
        return UNBOUNDED
    if any(kind in inner.model_type for kind in OFFSET_POSITIONS):
        positions -= (inner.pad_token_id or 0) + 1
    return min(int(positions), constant_rotary_length(config) or UNBOUNDED)


def answer_too_long(answer: int, window: int) -> Problem:
    """The problem of training whose answers fill the model.

    Args:
        answer: most tokens of an answer.
        window: tokens that the model holds.
    """
    sentence = f"data.max_new_tokens is {answer:,}, but the model holds {window:,} tokens, the prompt included"
    return Problem("data", sentence, "lower it")


def question_too_long(benchmark: str, prompt: int, answer: int, window: int) -> Problem:
    """The problem of a benchmark whose questions the model does not hold with their answers.

    Args:
        benchmark: its name.
        prompt: tokens of a question; 0 if they were not counted.
        answer: most tokens of its answer.
        window: tokens that the model holds.
    """
    prompts = f" to prompts of up to {prompt:,}" if prompt else ""
    request = f"The benchmark {benchmark} asks for answers of up to {answer:,} tokens{prompts}"
    fix = f"lower benchmarks.{benchmark}.max_new_tokens, or leave the benchmark out"
    return Problem(f"benchmark {benchmark}", f"{request}, but the model holds {window:,}", fix)


def check_window(config: Any, prompt: int, answer: int) -> None:
    """Refuse a prompt with an answer that the model cannot hold.

    Args:
        config: of the model.
        prompt: tokens of the prompt.
        answer: tokens that the answer has, or may have.

    Raises:
        UserError: names the lengths and the ways out.
    """
    window = window_of(config)
    if prompt + answer > window:
        with_answer = f" with an answer of {answer:,}" if answer else ""
        raise UserError(
            f"A prompt of {prompt:,} tokens{with_answer} passes the {window:,} tokens that the model "
            "holds: lower max_new_tokens, leave the benchmark out, or set 'model:' to one that holds more"
        )
