"""Training a reward model: a classification head on the start policy, all weights trained, by TRL's RewardTrainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.answer.load import ModelAndTokenizer


@dataclass(frozen=True)
class RewardSettings:
    """How a reward model is trained.

    Attributes:
        epochs: passes over the pairs; learning_rate: of AdamW; batch_size: pairs a step; seed: of the order of pairs.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int = 0


def load_reward_base(start: Path) -> ModelAndTokenizer:
    """The start policy with a new head of one output, in float32, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(start)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1, dtype="float32")
    model.config.pad_token_id = tokenizer.pad_token_id
    return ModelAndTokenizer(model, tokenizer)


def train_reward_model(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, list[int]]],
    settings: RewardSettings,
    out: Path,
    on_step: Callable[[int, int], None],
) -> None:
    """Train on pairs and save model and tokenizer.

    Args:
        model: with a classification head.
        tokenizer: of the model.
        rows: ``chosen_ids`` and ``rejected_ids``, whole conversations.
        settings: epochs, learning rate, batch size, seed.
        out: folder of the saved model.
        on_step: called with the steps done and the steps in all, first with 0.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import RewardConfig, RewardTrainer

    from sail.config import cpu_arguments

    class Steps(TrainerCallback):  # type: ignore[misc]
        """Reports progress."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            on_step(0, state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            on_step(state.global_step, state.max_steps)

    with tempfile.TemporaryDirectory() as scratch:
        arguments = {
            "output_dir": scratch,
            "num_train_epochs": settings.epochs,
            "learning_rate": settings.learning_rate,
            "per_device_train_batch_size": settings.batch_size,
            "max_length": None,
            "seed": settings.seed,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 10,
            "dataloader_pin_memory": False,
            **cpu_arguments(),
            "bf16": False,
        }
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(**arguments),
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            processing_class=tokenizer,
            callbacks=[Steps()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.save_model(str(out))
    tokenizer.save_pretrained(out)
