"""``reward_model``: a sequence-classification checkpoint with one output, from a directory or the Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field

from harness.answer.chat import Prompt, conversation_text, messages_of, text_ids
from harness.answer.model_files import model_problems
from harness.errors import Problem, UserError
from harness.oracles.base import NoVerdict, Oracle, OracleOptions
from harness.store.json_files import digest

REFUSED = "refused by the reward model's chat template"
LEFT_OUT = "a turn is left out by the reward model's chat template"
TOO_LONG = "longer than the reward model holds"

PROBE = "The answer stands here."


class RewardModelOptions(OracleOptions):
    """``model``: a directory written by ``save_pretrained`` (``sail-bench train-reward`` makes one) or a Hub id with
    an optional revision; an adapter is merged into its base. ``batch_size``: answers scored at once. ``max_length``:
    most tokens of prompt and answer, no more than the model has positions; a longer conversation has no reward.
    ``chat_template``: for a checkpoint that comes without one: a Jinja file, or ``fastchat:NAME``."""

    model: str
    batch_size: int = Field(default=16, gt=0)
    max_length: int = Field(default=2048, gt=0)
    chat_template: str | None = None


class RewardModel(Oracle):
    """The reward is the checkpoint's single logit of the conversation, by the checkpoint's own chat template.

    A conversation that the template refuses, of which it leaves out a turn, or that is too long has no reward.
    """

    name = "reward_model"
    version = 2
    summary = "a reward model: any sequence-classification checkpoint with one output (directory or Hub id)"
    unit = "reward"
    Options: ClassVar[type[OracleOptions]] = RewardModelOptions
    options: RewardModelOptions

    def identity(self) -> dict[str, Any]:
        """Identity of the checkpoint: of a directory the hash of its files, wherever it is."""
        from harness.answer.start_policy import start_stage

        checkpoint = start_stage(self.options.model, self.options.chat_template).key
        return {"oracle": self.name, "version": self.version, "checkpoint": checkpoint}

    def ready(self) -> list[Problem]:
        """Files of the checkpoint that are not there."""
        return model_problems(f"oracle {self.name}", "the oracle's option 'model'", self.options.model)

    def load(self) -> None:
        """Load the checkpoint.

        Raises:
            UserError: it cannot be loaded, does not have exactly one output, or its tokenizer does not suit it.
        """
        _ = self._model

    def check_prompts(self, rows: Sequence[Prompt]) -> None:
        """Render an answer to each prompt, without the checkpoint's weights.

        Raises:
            UserError: no prompt could have a reward.
        """
        reasons = [self._prompt_fault(row) for row in rows]
        if reasons and all(reasons):
            raise UserError(
                f"The reward model {self.options.model!r} can reward an answer to none of the {len(rows)} prompts (the "
                f"first: {reasons[0]}): take another reward model, or prompts whose turns its chat template writes"
            )

    def _prompt_fault(self, row: Prompt) -> str:
        """Why answers to a prompt have no reward; empty if they may have one."""
        tokenizer = self.tokenizer
        try:
            ids = conversation_ids(tokenizer, row, PROBE)
        except Exception as error:  # noqa: BLE001 - templates raise many kinds of errors
            return f"{REFUSED}, {_reason(error)}"
        if len(ids) > self.limit:
            return f"{TOO_LONG}, {len(ids):,} tokens of {self.limit:,}"
        return LEFT_OUT if self._leaves_out(row) else ""

    def _leaves_out(self, row: Prompt) -> bool:
        """Whether the chat template leaves out a turn of the system or of the user. It may write other white space."""
        messages = messages_of(row)
        conversation = [*messages, {"role": "assistant", "content": PROBE}]
        text = _without_spaces(self.tokenizer.apply_chat_template(conversation, tokenize=False))
        return any(_without_spaces(m["content"]) not in text for m in messages if m["role"] != "assistant")

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer, with the date of the run in its chat template. Its weights are not loaded.

        Raises:
            UserError: there is none, or it has no chat template or padding token.
        """
        from harness.answer.adapter import load_tokenizer_of
        from harness.answer.chat_date import date_tokenizer
        from harness.answer.chat_template import set_chat_template

        name = self.options.model
        try:
            tokenizer = load_tokenizer_of(name)
        except (OSError, ValueError) as error:
            raise self._not_loaded(error) from None
        if self.options.chat_template is not None:
            set_chat_template(tokenizer, self.options.chat_template)
        if not tokenizer.chat_template:
            raise UserError(
                f"The reward model {name!r} has no chat template, so what it was trained to read is not known: save it "
                "with its tokenizer, or set the oracle's option 'chat_template' to a Jinja file or fastchat:NAME"
            )
        date_tokenizer(tokenizer, self.chat_date)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token_id is None:
            raise UserError(f"The tokenizer of the reward model {name!r} has no pad_token: set one and save it")
        return tokenizer

    @cached_property
    def limit(self) -> int:
        """Most tokens of a conversation: ``max_length``, or the checkpoint's positions. Its weights are not loaded."""
        from harness.answer.adapter import load_config_of
        from harness.answer.window import window_of

        try:
            config = load_config_of(self.options.model)
        except (OSError, ValueError) as error:
            raise self._not_loaded(error) from None
        return min(self.options.max_length, window_of(config))

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        from harness.answer.adapter import find_adapter, load_weights
        from harness.answer.load import on_accelerator
        from harness.answer.start_checks import check_special_ids

        name, tokenizer = self.options.model, self.tokenizer
        try:
            outputs = {"num_labels": 1} if find_adapter(name) else {}  # its head is in the adapter
            model = load_weights(AutoModelForSequenceClassification, name, **outputs)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._not_loaded(error) from None
        if model.config.num_labels != 1:
            raise UserError(
                f"The reward model {name!r} has {model.config.num_labels} outputs, not one: it is a classifier"
            )
        check_special_ids(name, model, tokenizer)
        model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
        return self.attach(on_accelerator(model).eval())

    def _not_loaded(self, error: BaseException) -> UserError:
        return UserError(
            f"The reward model {self.options.model!r} cannot be loaded ({_reason(error)}): set the oracle's option "
            "'model'"
        )

    def score(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """The checkpoint's logit of each answer; :class:`~harness.oracles.base.NoVerdict` where there is none."""
        conversations = self._conversations(rows, texts)
        fitting = {i: ids for i, ids in enumerate(conversations) if isinstance(ids, list) and len(ids) <= self.limit}
        rewards = self._rewards(fitting)
        others = [NoVerdict(TOO_LONG) if isinstance(c, list) else c for c in conversations]
        return [rewards.get(i, other) for i, other in enumerate(others)]

    def score_beginnings(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """As :meth:`score`, but a conversation that is too long is cut at :attr:`limit`."""
        conversations = self._conversations(rows, texts)
        rewards = self._rewards({i: c[: self.limit] for i, c in enumerate(conversations) if isinstance(c, list)})
        return [rewards[i] if isinstance(c, list) else c for i, c in enumerate(conversations)]

    def _rewards(self, conversations: Mapping[int, list[int]]) -> dict[int, float]:
        """Logits of conversations that fit, by their place."""
        import torch

        order = sorted(conversations, key=lambda i: len(conversations[i]))
        rewards: dict[int, float] = {}
        for start in range(0, len(order), self.options.batch_size):
            places = order[start : start + self.options.batch_size]
            ids = {"input_ids": [conversations[i] for i in places]}
            batch = self.tokenizer.pad(ids, return_tensors="pt").to(self._model.device)
            with torch.no_grad():
                logits = self._model(**batch).logits[:, 0].float().tolist()
            rewards |= dict(zip(places, logits, strict=True))
        return rewards

    def lengths(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[int]:
        """Tokens of each conversation, 0 of one that has no reward whatever its length. The model sees at most
        :attr:`limit`."""
        return [len(ids) if isinstance(ids, list) else 0 for ids in self._conversations(rows, texts)]

    def _conversations(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[list[int] | NoVerdict]:
        """Token ids of each prompt with its answer, or why they have no reward."""
        tokenizer, left_out = self.tokenizer, dict[str, bool]()
        conversations: list[list[int] | NoVerdict] = []
        for row, text in zip(rows, texts, strict=True):
            prompt = digest(messages_of(row))
            try:
                ids = conversation_ids(tokenizer, row, text)
                if prompt not in left_out:
                    left_out[prompt] = self._leaves_out(row)
            except Exception:  # noqa: BLE001 - templates raise many kinds of errors
                conversations.append(NoVerdict(REFUSED))
                continue
            conversations.append(NoVerdict(LEFT_OUT) if left_out[prompt] else ids)
        return conversations


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


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
