"""What the comparisons of training share: a start policy, pairs of random tokens, trainers, and a step on a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from harness.answer.load import load_model, load_tokenizer
from harness.answer.start_policy import build_start
from harness.recipe.train import LoraSpec
from harness.store.stages import Store
from tests.speed.measure import Setting, Side, timed

PROMPT, ANSWER = 50, 32
"""Tokens of a prompt and of an answer: about what the smollm2 recipe sees on average."""

ADAPTED_LAYERS = 8

WORDS = ("one", "two", "three", "four", "five", "six", "red", "green", "blue", "old", "new", "when", "what", "who")

Row = dict[str, Any]


def random_ids(vocabulary: int, count: int, *key: int | str) -> list[int]:
    """Token ids that depend on a key alone; the first ten are left out, as they may have a meaning."""
    from sail.noise import generator

    return [int(i) for i in generator(("speed", *key)).integers(10, vocabulary, count)]


class Workbench:
    """The model, its tokenizer and the settings that both sides share.

    Args:
        setting: of the comparison.
        pairs: of a step.
    """

    def __init__(self, setting: Setting, pairs: int = 4) -> None:
        from trl.kernels import chunked_logprob
        from trl.trainer import utils

        self.stock_compaction = utils._use_triton  # before a trainer of ours replaces it, and the tiles too
        self.stock_tiles = {name: getattr(chunked_logprob, name) for name in ("_forward_tile", "_backward_tile")}
        self.setting, self.pairs = setting, pairs
        self.start = build_start(setting.model, Store(setting.store))
        self.tokenizer = load_tokenizer(self.start)
        self.steps = setting.repeats + 1

    def ids(self, count: int, *key: int | str) -> list[int]:
        """Random ids; the last ten of the vocabulary may have a meaning as well."""
        return random_ids(len(self.tokenizer) - 10, count, *key)

    def rows(self) -> list[Row]:
        """Pairs for all steps, with made-up log-probabilities under the reference."""
        eos = self.tokenizer.eos_token_id
        return [
            {
                "example_id": i,
                "prompt_ids": self.ids(PROMPT, i),
                "chosen_ids": [*self.ids(ANSWER - 1, i, "chosen"), eos],
                "rejected_ids": [*self.ids(ANSWER - 1, i, "rejected"), eos],
                "ref_chosen_logps": -200.0,
                "ref_rejected_logps": -200.0,
            }
            for i in range(self.pairs * self.steps)
        ]

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """Arguments of a configuration of TRL's that both sides get: float32, as a recipe's default is."""
        from sail.config import cpu_arguments

        settings: dict[str, Any] = {
            "output_dir": str(self.setting.folder / "trainer"),
            "per_device_train_batch_size": self.pairs,
            "max_steps": self.steps,
            "max_length": 512,
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **cpu_arguments(),
            "bf16": False,
            "gradient_checkpointing": False,  # with it OnlineDPOTrainer samples without a cache
        }
        return settings | changes

    def trainer(self, kind: Any, args: Any, rows: list[Row], model: Any = None, **options: Any) -> Any:
        """A trainer with a new adapter, ready to step.

        Args:
            kind: its class.
            args: its configuration.
            rows: of its data set.
            model: a copy of the start policy; a fresh one if None.
            options: further arguments of the class.
        """
        from datasets import Dataset

        from harness.train.settings import lora_config

        policy = load_model(self.start) if model is None else model
        layers = min(ADAPTED_LAYERS, policy.config.num_hidden_layers)
        trainer = kind(
            model=policy,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=self.tokenizer,
            peft_config=lora_config(LoraSpec(layers=layers), policy),
            **options,
        )
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        return trainer

    @contextmanager
    def stock(self) -> Iterator[None]:
        """TRL and PyTorch as they come. On a CPU TRL's fused LM head projects masked positions too (:mod:`sail.dpo`),
        its tiles are worked on as TRL does (not by :mod:`sail.head_tiles`), and no weight is packed."""
        from trl.kernels import chunked_logprob
        from trl.trainer import utils

        from harness.answer.packed_weights import PackedLinear

        with ExitStack() as replaced:
            for module, name, value in (
                (utils, "_use_triton", self.stock_compaction),
                *((chunked_logprob, name, value) for name, value in self.stock_tiles.items()),
                (PackedLinear, "takes", lambda layer, rows: False),
            ):
                replaced.enter_context(mock.patch.object(module, name, value))
            yield

    def without_end(self, model: Any) -> Any:
        """The model, whose sampling never ends an answer, so that all have the same length. It is returned.

        Training forwards are as they were.
        """
        import torch

        ends = {self.tokenizer.eos_token_id, model.generation_config.eos_token_id}
        flat = [i for end in ends for i in (end if isinstance(end, list) else [end]) if i is not None]

        def ban(module: Any, args: Any, logits: Any) -> Any:
            if torch.is_grad_enabled():
                return None
            return logits.index_fill(-1, torch.tensor(flat, device=logits.device), float("-inf"))

        model.get_output_embeddings().register_forward_hook(ban)
        return model


def on_token_ids(trainer: Any) -> Any:
    """A trainer class of TRL that takes rows of token ids with the reference's log-probabilities as they are; its step
    is untouched."""

    class OnTokenIds(trainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *more: Any, **options: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *more: Any, **options: Any) -> Any:
            return dataset

    return OnTokenIds


def step(trainer: Any, batch: Row) -> None:
    """One optimiser step on one collated batch: sampling, if any, forward, backward, update."""
    (prepared,), items = trainer.get_batch_samples(iter([dict(batch)]), 1, trainer.args.device)
    trainer.training_step(trainer.model, prepared, items)
    trainer.optimizer.step()
    trainer.model.zero_grad()


def seconds_of_steps(trainer: Any, batches: list[Row] | None = None) -> Side:
    """Seconds of the step of a repeat.

    Args:
        trainer: ready to step.
        batches: one a repeat; those of its data set if None.
    """
    some = list(trainer.get_train_dataloader()) if batches is None else batches
    return lambda place: timed(lambda: step(trainer, some[place]))
