"""An engine that samples with transformers, where vLLM is not installed: from the weights that it is given, alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.answer.load import Loading, load_model, load_tokenizer
from harness.answer.rollout_engine import EngineSettings, RolloutEngine
from sail.sampling import sample
from sail.types import Completion, Request

NAME = "kit.standin_engine:StandInEngine"
"""As in :data:`harness.answer.rollout_engine.ENGINES`."""


class StandInEngine(RolloutEngine):
    """Holds a model of its own, read from the synced folder; asleep, it refuses to sample."""

    made: list[StandInEngine] = []

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.folders: list[Path | None] = []
        self.answers = 0
        self.pad_id = load_tokenizer(settings.start).pad_token_id
        self._model: Any = None
        StandInEngine.made.append(self)

    def _load(self, folder: Path | None) -> None:
        self.folders.append(folder)
        self._model = load_model(self.settings.start, folder, Loading("float32"))

    def sample(self, requests: Sequence[Request], eos_ids: Sequence[int]) -> list[Completion]:
        """By the keyed noise, as transformers would."""
        assert not self.asleep
        if self._model is None:
            self._load(self.synced)
        self.answers += len(requests)
        return sample(self._model, requests, eos_ids=eos_ids, pad_id=self.pad_id)
