"""``reward_model``: a sequence-classification checkpoint with one output, from a directory or the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field

from harness.answer.chat import turns
from harness.errors import UserError
from harness.oracles.base import Oracle, OracleOptions, Row


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
        """A directory counts by its files' contents, wherever it lies."""
        from harness.answer.start_policy import start_stage

        return {"oracle": self.name, "version": self.version, "checkpoint": start_stage(self.options.model).key}

    def ready(self) -> None:
        """Load the checkpoint."""
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

    def score(self, rows: Sequence[Row], texts: Sequence[str]) -> list[float]:
        """One logit an answer."""
        import torch

        model, tokenizer = self._loaded
        ids = [each[: self.options.max_length] for each in self._encoded(rows, texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found = [0.0] * len(ids)
        for start in range(0, len(order), self.options.batch_size):
            part = order[start : start + self.options.batch_size]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in part]}, return_tensors="pt").to(model.device)
            with torch.no_grad():
                logits = model(**batch).logits[:, 0].float().tolist()
            for i, value in zip(part, logits, strict=True):
                found[i] = value
        return found

    def lengths(self, rows: Sequence[Row], texts: Sequence[str]) -> list[int]:
        """Tokens of each conversation; what lies beyond ``max_length`` is not seen."""
        return [len(each) for each in self._encoded(rows, texts)]

    def _encoded(self, rows: Sequence[Row], texts: Sequence[str]) -> list[list[int]]:
        tokenizer = self._loaded[1]
        return [conversation(tokenizer, r, t) for r, t in zip(rows, texts, strict=True)]


def conversation(tokenizer: Any, row: Row, text: str) -> list[int]:
    """Token ids of a prompt row with an answer, by the chat template; as plain text if the tokenizer has none."""
    if tokenizer.chat_template:
        said = [*turns(row), {"role": "assistant", "content": text}]
        ids: list[int] = tokenizer.apply_chat_template(said, return_dict=True)["input_ids"]
        return ids
    plain: list[int] = tokenizer(f"{row['prompt']}\n\n{text}")["input_ids"]
    return plain
