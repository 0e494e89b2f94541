"""Training a reward model: a classification head on the start policy, all weights trained, by TRL's RewardTrainer."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.answer.load import Loading, ModelAndTokenizer
from harness.errors import UserError
from harness.recipe.train import Precision, TrainSpec
from harness.train.checks import Lengths, check_settings
from harness.train.settings import shared_arguments

UNREAD = {"beta", "max_length", "lora", "checkpoints"}
"""Keys of ``train`` that a reward model's training does not read."""


@dataclass(frozen=True)
class RewardSettings:
    """How a reward model is trained.

    Attributes:
        epochs: passes over the pairs; learning_rate: of the optimiser; seed: of the order of pairs.
        train: the recipe's settings: pairs a step, optimiser, schedule, and what saves memory. All weights are trained.
        precision: the recipe's. The weights are float32, so that ``bf16`` is ``bf16-mixed`` here.
    """

    epochs: int
    learning_rate: float
    train: TrainSpec
    precision: Precision = "float32"
    seed: int = 0

    def check(self, start: Path) -> None:
        """Refuse settings of the recipe that cannot train a reward model here.

        Args:
            start: folder of the start policy.

        Raises:
            UserError: names the key, the reason and the fix.
        """
        from trl import RewardConfig

        for name in self.train.extra:
            if name not in RewardConfig.__dataclass_fields__:
                raise UserError(f"train.extra.{name} has no effect on a reward model: leave it out for train-reward")
        if self.train.processes > 1:
            raise UserError(
                f"train.processes is {self.train.processes}, and a reward model trains in one process: leave it out "
                "for train-reward, and raise train.gradient_accumulation by as much"
            )
        check_settings(self.train, self.precision, start, rates=[self.learning_rate])

    def check_length(self, start: Path, pairs: int) -> None:
        """Refuse a schedule that does not fit so many steps.

        Args:
            start: folder of the start policy.
            pairs: that it is trained on.

        Raises:
            UserError: names the key, the number of steps and the fix.
        """
        batches = math.ceil(pairs / self.train.batch_size)
        steps = self.epochs * math.ceil(batches / self.train.gradient_accumulation)
        lengths = Lengths(fixed=[steps])
        check_settings(self.train, self.precision, start, rates=[self.learning_rate], lengths=lengths)

    @property
    def computed_in(self) -> Precision:
        """The precision of a reward model's training: its weights are float32."""
        return "float32" if self.precision == "float32" else "bf16-mixed"

    def used(self) -> dict[str, Any]:
        """The recipe's settings that a reward model's training reads, by their keys."""
        return self.train.model_dump(mode="json", exclude=UNREAD)


def load_reward_base(start: Path, attention: str | None = None) -> ModelAndTokenizer:
    """The start policy with a new head of one output, in float32, and its tokenizer.

    Args:
        start: folder of the start policy.
        attention: the recipe's ``train.attention``.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(start)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    options = Loading("float32", attention).options
    model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1, **options)
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
        settings: epochs, learning rate, seed and the recipe's.
        out: folder of the saved model.
        on_step: called with the steps done and the steps in all, first with 0.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import RewardConfig, RewardTrainer

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
            "per_device_train_batch_size": settings.train.batch_size,
            "gradient_accumulation_steps": settings.train.gradient_accumulation,
            "max_grad_norm": settings.train.max_grad_norm,
            "max_length": None,
            "seed": settings.seed,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 10,
            "dataloader_pin_memory": False,
            **shared_arguments(settings.train, settings.computed_in),
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
