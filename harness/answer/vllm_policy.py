"""Sampling evaluation answers with vLLM: the same requests, token ids in and out, another engine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.answer.policy import Policy
from harness.budget.flops import Shape, forward, head, shape_of
from harness.errors import UserError
from harness.store.json_files import digest
from sail.types import Completion, Request

CHUNK = 256
"""Requests between two durable writes. Within a chunk vLLM forms its own batches."""

MAX_ENGINES = 2
"""A policy and its baseline share the device."""

MEMORY_SHARE = 0.4
"""Share of the device's memory that an engine gets."""

_WITH_ENGINE: list[VllmPolicy] = []  # the one used last at the end


class VllmPolicy(Policy):
    """A policy whose answers vLLM samples, in this process; log-probabilities of given answers stay with transformers.

    Greedy answers are those of transformers up to rounding; sampled ones follow the same distribution under another
    noise (vLLM's own, seeded by the request's key), so the engine belongs to the protocol. vLLM's passes go past the
    meter's hooks: their tokens and operations are charged by the formulas of :mod:`harness.budget.flops`.
    """

    options: dict[str, Any]
    _llm: Any = None

    @classmethod
    def from_policy(cls, policy: Policy, options: Mapping[str, Any]) -> VllmPolicy:
        """The same weights, tokenizer, meter and cache. ``options``: keywords of ``vllm.LLM``."""
        other = cls.__new__(cls)
        other.__dict__.update(policy.__dict__)
        other.options = dict(options)
        return other

    @property
    def sampler_identity(self) -> str:
        """Names the weights and the engine that samples from them, in cache keys."""
        return f"{self.identity}@vllm{digest(self.options)}"

    def close(self) -> None:
        """Give the engine's memory back; the next request starts another."""
        import gc

        import torch

        core: Any = getattr(getattr(self._llm, "llm_engine", None), "engine_core", None)
        self._llm = None
        if core is not None:
            core.shutdown()
        del core
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _engine(self) -> Any:
        if self in _WITH_ENGINE:
            _WITH_ENGINE.remove(self)
        while len(_WITH_ENGINE) >= MAX_ENGINES:
            _WITH_ENGINE.pop(0).close()
        _WITH_ENGINE.append(self)
        if self._llm is None:
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
            try:
                from vllm import LLM
            except ImportError:
                raise UserError(
                    "The recipe asks for engine: vllm, which is not installed: python -m pip install 'sail-bench[vllm]'"
                ) from None
            with tempfile.TemporaryDirectory() as folder:
                self.held.save_whole(Path(folder))
                self.tokenizer.save_pretrained(folder)
                dtype = str(self.model.dtype).removeprefix("torch.")
                settings: dict[str, Any] = {
                    "dtype": dtype,
                    "disable_log_stats": True,
                    "gpu_memory_utilization": MEMORY_SHARE,
                }
                self._llm = LLM(model=folder, **settings | self.options)
        return self._llm

    def _generate(
        self, requests: list[Request], on_rows: Callable[[list[int], list[Completion]], None]
    ) -> list[Completion]:
        from vllm import SamplingParams

        answers: list[Completion] = []
        shape = shape_of(self.model)
        for first in range(0, len(requests), CHUNK):
            chunk = requests[first : first + CHUNK]
            settings = [
                SamplingParams(
                    temperature=r.temperature,
                    max_tokens=r.max_new_tokens,
                    seed=int(digest(list(r.key)), 16) % 2**31 if r.temperature else None,
                    stop_token_ids=self.eos_ids,
                    logprobs=0,
                    detokenize=False,
                )
                for r in chunk
            ]
            prompts = [{"prompt_token_ids": list(r.prompt)} for r in chunk]
            outputs = self._engine().generate(prompts, settings, use_tqdm=False)
            batch = [_completion(o.outputs[0]) for o in outputs]
            for r, c in zip(chunk, batch, strict=True):
                self._charge(shape, len(r.prompt), len(c.ids))
            on_rows(list(range(first, first + len(chunk))), batch)
            answers += batch
        return answers

    def _charge(self, shape: Shape, prompt: int, answer: int) -> None:
        """Charge one answer: tokens of the prompt and of the answer."""
        self.meter.charge("tokens", prompt + answer - 1)
        self.meter.charge("generated", answer)
        self.meter.charge("prefill_flops", forward(shape, 1, prompt) + head(shape, 1))
        decoded = sum(forward(shape, 1, 1, prompt + t) + head(shape, 1) for t in range(answer - 1))
        self.meter.charge("decode_flops", decoded)


def _completion(output: Any) -> Completion:
    ids = tuple(int(i) for i in output.token_ids)
    logps = tuple(float(at[i].logprob) for i, at in zip(ids, output.logprobs, strict=True))
    return Completion(ids, logps, output.finish_reason == "stop")
