"""``reward_model``: a sequence-classification checkpoint with one output, from a directory or the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field

from harness.answer.chat import Prompt, conversation_text, messages_of, text_ids
from harness.errors import UserError
from harness.oracles.base import Oracle, OracleOptions


class RewardModelOptions(OracleOptions):
    """``model``: a directory written by ``save_pretrained`` (``sail-bench train-reward`` makes one) or a Hub id with
    an optional revision. ``batch_size``: answers scored at once. ``max_length``: tokens of prompt and answer."""

    model: str
    batch_size: int = Field(default=16, gt=0)
    max_length: int = Field(default=2048, gt=0)


class RewardModel(Oracle):
    """The reward is the checkpoint's single logit of the conversation, by the checkpoint's own chat template."""

    name = "reward_model"
    summary = "a reward model: any sequence-classification checkpoint with one output (directory or Hub id)"
    unit = "reward"
    Options: ClassVar[type[OracleOptions]] = RewardModelOptions
    options: RewardModelOptions

    def identity(self) -> dict[str, Any]:
        """Identity of the checkpoint: of a directory the hash of its files, wherever it is."""
        from harness.answer.start_policy import start_stage

        return {"oracle": self.name, "version": self.version, "checkpoint": start_stage(self.options.model).key}

    def ready(self) -> None:
        """Load the checkpoint.

        Raises:
            UserError: it cannot be loaded, or does not have exactly one output.
        """
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        name, _, revision = self.options.model.partition("@")
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or None)
            model = AutoModelForSequenceClassification.from_pretrained(name, revision=revision or None)
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"The reward model {name!r} cannot be loaded ({reason}): set the oracle's option 'model'"
            ) from None
        if model.config.num_labels != 1:
            raise UserError(
                f"The reward model {name!r} has {model.config.num_labels} outputs, not one: it is a classifier"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        return self.attach(model.to("cuda" if torch.cuda.is_available() else "cpu").eval()), tokenizer

    def score(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """The checkpoint's logit of each answer."""
        import torch

        model, tokenizer = self._loaded
        ids = [each[: self.options.max_length] for each in self._conversations(rows, texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        scores = [0.0] * len(ids)
        for start in range(0, len(order), self.options.batch_size):
            indices = order[start : start + self.options.batch_size]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in indices]}, return_tensors="pt").to(model.device)
            with torch.no_grad():
                logits = model(**batch).logits[:, 0].float().tolist()
            for i, value in zip(indices, logits, strict=True):
                scores[i] = value
        return scores

    def lengths(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[int]:
        """Tokens of each conversation. The model does not see what is beyond ``max_length``."""
        return [len(ids) for ids in self._conversations(rows, texts)]

    def _conversations(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[list[int]]:
        tokenizer = self._loaded[1]
        return [conversation_ids(tokenizer, r, t) for r, t in zip(rows, texts, strict=True)]


def conversation_ids(tokenizer: Any, prompt: Prompt, answer: str) -> list[int]:
    """Token ids of a prompt with an answer.

    Args:
        tokenizer: its chat template writes the conversation; without one, prompt and answer are plain text.
        prompt: a row with ``prompt`` or ``messages``.
        answer: the assistant's turn.
    """
    if tokenizer.chat_template:
        messages = [*messages_of(prompt), {"role": "assistant", "content": answer}]
        return text_ids(tokenizer, conversation_text(tokenizer, messages, opened=False))
    plain: list[int] = tokenizer(f"{prompt['prompt']}\n\n{answer}")["input_ids"]
    return plain
