"""A policy whose answers the engine samples, and the same for a model in training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from harness.answer.engine_check import check_engine
from harness.answer.lower_blocks import LowerBlocks
from harness.answer.policy import Policy
from harness.answer.rollout_engine import RolloutEngine
from harness.budget.flops import Shape, forward, head, shape_of
from harness.budget.meter import Meter
from harness.store.json_files import digest
from sail.types import Completion, Request

CHUNK = 256
"""Requests between two durable writes. Within a chunk the engine forms its own batches."""

ENGINE_VERSION = 2
"""Of the way in which an engine samples, in the keys of its answers."""

CHECK = "check"
"""Phase of the forwards that check the engine: they count towards no budget."""


_NUMBERS = count(1)
"""Of the weights saved in this process: no two folders have the same name."""


@contextmanager
def awake(engine: RolloutEngine, meter: Meter) -> Iterator[None]:
    """Wake the engine for what happens inside. Starting it is no cost of sampling: its time is charged to ``setup``."""
    if engine.started:
        engine.wake()
    else:
        with meter.phase("setup"):
            engine.wake()
    try:
        yield
    finally:
        engine.sleep()


class EnginePolicy(Policy):
    """A policy whose answers the run's engine samples; log-probabilities of given answers stay with transformers.

    The engine's passes go past the meter's hooks: their tokens and operations are charged by the formulas of
    :mod:`harness.budget.flops`.
    """

    engine: RolloutEngine
    folder: Path | None

    @classmethod
    def of(cls, policy: Policy, engine: RolloutEngine, folder: Path | None) -> EnginePolicy:
        """The same weights, tokenizer, meter and cache.

        Args:
            policy: in memory.
            engine: of the run.
            folder: where its weights, or its adapter, are saved; None for the start policy.
        """
        other = cls.__new__(cls)
        other.__dict__.update(policy.__dict__)
        other.engine, other.folder = engine, folder
        return other

    @property
    def sampler_identity(self) -> str:
        """Names the weights and the engine that samples from them, in cache keys."""
        return f"{self.identity}@vllm{ENGINE_VERSION}{digest(dict(self.engine.settings.options))}"

    def _generate(
        self,
        requests: list[Request],
        on_rows: Callable[[list[int], list[Completion]], None],
        lower: LowerBlocks | None = None,
    ) -> list[Completion]:
        answers: list[Completion] = []
        with self.held.computing():
            shape = shape_of(self.model)
        while len(answers) < len(requests):
            with awake(self.engine, self.meter):
                self.engine.sync(self.folder)
                while len(answers) < len(requests):
                    first, chunk = len(answers), requests[len(answers) : len(answers) + CHUNK]
                    batch = self.engine.sample(chunk, self.eos_ids)
                    charge_answers(self.meter, shape, chunk, batch)
                    answers += batch
                    if self.engine.unchecked:
                        break
                    on_rows(list(range(first, len(answers))), batch)
            if self.engine.unchecked:  # before any answer is kept: a later call would not sample and check it again
                with self.meter.phase(CHECK), self.held.computing():
                    check_engine(self.engine, self.model, chunk, batch)
                on_rows(list(range(first, len(answers))), batch)
        return answers


class EngineSampler:
    """Samples for a model in training, in place of :func:`sail.sampling.sample`: saves its weights, has the engine take
    them up, and compares log-probabilities.

    Args:
        engine: of the run.
        folder: of the weights under way; it is emptied.
        meter: is charged.
    """

    def __init__(self, engine: RolloutEngine, folder: Path, meter: Meter) -> None:
        self.engine, self.folder, self.meter = engine, folder, meter
        shutil.rmtree(folder, ignore_errors=True)

    def __call__(
        self, model: Any, requests: Sequence[Request], *, eos_ids: Sequence[int], pad_id: int, batch_size: int = 64
    ) -> list[Completion]:
        """One answer to each request, in request order.

        Args:
            model: of transformers (also wrapped by PEFT), with its weights of now.
            requests: prompts with their limits, temperatures and keys.
            eos_ids: ids that end an answer.
            pad_id: not used: the engine does not pad.
            batch_size: not used: the engine forms its own batches.

        Raises:
            UserError: the engine does not take the weights, or samples from others.
        """
        if not requests:
            return []
        with self.meter.phase("generate"):
            before, saved = self.engine.synced, self._save(model)
            with awake(self.engine, self.meter):
                self.engine.sync(saved)
                answers = self.engine.sample(requests, eos_ids)
            if before is not None and before.parent == self.folder and before != saved:
                shutil.rmtree(before, ignore_errors=True)
            shape = shape_of(model.get_base_model() if hasattr(model, "peft_config") else model)
            charge_answers(self.meter, shape, requests, answers)
        with self.meter.phase(CHECK):
            check_engine(self.engine, model, requests, answers)
        return answers

    def _save(self, model: Any) -> Path | None:
        """The folder of the weights of now; None for the start policy, which is what a model without adapter is where
        training adds one."""
        adapted = hasattr(model, "peft_config")
        if self.engine.settings.lora is not None and not adapted:
            return None
        folder = self.folder / f"weights-{next(_NUMBERS)}"
        if adapted:
            model.save_pretrained(folder, selected_adapters=[model.active_adapter], save_embedding_layers=False)
        else:
            model.save_pretrained(folder)
        return folder

    def close(self) -> None:
        """Remove the saved weights."""
        shutil.rmtree(self.folder, ignore_errors=True)


def charge_answers(meter: Meter, shape: Shape, requests: Sequence[Request], answers: Sequence[Completion]) -> None:
    """Charge sampled answers to the current phase, as the sampler of transformers would: each prompt once, but for its
    last token, which is read with each answer.

    Args:
        meter: that is charged.
        shape: of the model.
        requests: that were sampled.
        answers: to them.
    """
    for prompt in dict.fromkeys(r.prompt for r in requests):
        meter.charge("tokens", len(prompt) - 1)
        meter.charge("prefill_flops", forward(shape, 1, len(prompt) - 1))
    for request, answer in zip(requests, answers, strict=True):
        steps, past = len(answer.ids), len(request.prompt) - 1
        meter.charge("tokens", steps)
        meter.charge("generated", steps)
        decoded = sum(forward(shape, 1, 1, past + t) + head(shape, 1) for t in range(steps))
        meter.charge("decode_flops", decoded)
