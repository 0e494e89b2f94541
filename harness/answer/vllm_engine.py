"""vLLM as the engine that samples, in this process."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.answer.adapter import load_config_of
from harness.answer.rollout_engine import EngineSettings, RolloutEngine
from harness.errors import Problem, UserError, error_of, install
from harness.store.json_files import digest
from sail.rotary import constant_rotary_length
from sail.types import Completion, Request

MEMORY_SHARE = 0.4
"""Share of the device's memory that the engine gets while it is awake."""

ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Largest adapter ranks that vLLM can be started with."""


class VllmEngine(RolloutEngine):
    """Adapters are taken up as a LoRA request with a new id, whole models by reloading the weights in place.

    Greedy answers are those of transformers up to rounding; sampled ones follow the same distribution under vLLM's own
    noise, seeded by the request's key.

    Args:
        settings: what it is made from. ``options`` are keywords of ``vllm.LLM``, which win over those set here.

    Raises:
        UserError: vLLM is not installed, or has no kernel for the adapters; later, that it does not take the model,
            the options or the weights.
    """

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        if problems := self.ready():
            raise error_of(problems)
        self._keywords = keywords(settings)
        self._llm: Any = None
        self._whole = settings.start  # the model whose weights are loaded
        self._adapter: Any = None
        self._adapters = 0

    @classmethod
    def ready(cls) -> list[Problem]:
        """It is not installed."""
        if find_spec("vllm") is not None:
            return []
        return [Problem("engine", "The recipe asks for engine: vllm, which is not installed", install("vllm"))]

    def _start(self) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        with _random_state_kept(), _in_words("start with this model and engine.options"):
            from vllm import LLM

            self._llm = LLM(model=str(self.settings.start), **self._keywords)

    def _load(self, folder: Path | None) -> None:
        whole = folder if folder is not None and not _is_adapter(folder) else self.settings.start
        if self._adapter is not None:
            self._llm.llm_engine.remove_lora(self._adapter.lora_int_id)
            self._adapter = None
        if whole != self._whole:
            self._reload(whole)
        if folder is not None and folder != whole:
            self._add_adapter(folder)

    def _add_adapter(self, folder: Path) -> None:
        from vllm.lora.request import LoRARequest

        self._adapters += 1
        adapter = LoRARequest(f"policy-{self._adapters}", self._adapters, str(folder))
        with _in_words("take up the adapter"):
            self._llm.llm_engine.add_lora(adapter)
        self._adapter = adapter

    def _reload(self, folder: Path) -> None:
        with _random_state_kept(), _in_words("reload the weights"):
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if not self._keywords["enable_sleep_mode"]:  # no GPU
                self._llm.collective_rpc(_pack_tied_head)
        self._llm.reset_prefix_cache()
        self._whole = folder

    def sample(self, requests: Sequence[Request], eos_ids: Sequence[int]) -> list[Completion]:
        """One answer to each request. vLLM forms its own batches."""
        from vllm import SamplingParams

        settings = [
            SamplingParams(
                temperature=r.temperature,
                max_tokens=r.max_new_tokens,
                seed=seed_of(r) if r.temperature else None,
                stop_token_ids=list(eos_ids),
                ignore_eos=True,  # these ids alone, not the tokenizer's as well
                logprobs=0,
                detokenize=False,
            )
            for r in requests
        ]
        prompts = [{"prompt_token_ids": list(r.prompt)} for r in requests]
        with _random_state_kept(), _in_words("sample"):
            outputs = self._llm.generate(prompts, settings, use_tqdm=False, lora_request=self._adapter)
        return [_completion(output.outputs[0]) for output in outputs]

    def sleep(self) -> None:
        """Offload the weights to the host and drop the key-value cache. vLLM cannot on a CPU, where nothing happens."""
        if self._keywords["enable_sleep_mode"] and not self.asleep:
            self._llm.sleep(level=1)
        super().sleep()

    def wake(self) -> None:
        """Take the memory back, with the weights as they were; the first call starts vLLM."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # blocks that torch keeps for later would be missing
        if self._llm is None:
            self._start()
        elif self._keywords["enable_sleep_mode"] and self.asleep:
            self._llm.wake_up()
        super().wake()

    def close(self) -> None:
        """End vLLM and free its memory."""
        super().close()
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


def seed_of(request: Request) -> int:
    """vLLM's seed of a request, from its key: 63 bits, equal in every process."""
    return int(digest(["seed", *request.key]), 16) % 2**63


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def keywords(settings: EngineSettings) -> dict[str, Any]:
    """Keywords of ``vllm.LLM``.

    Raises:
        UserError: adapters in float32 on a GPU, for which vLLM has no kernel.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    chosen: dict[str, Any] = {
        "dtype": settings.dtype,
        "disable_log_stats": True,
        "gpu_memory_utilization": MEMORY_SHARE,
        "enable_sleep_mode": on_gpu,
        "enable_chunked_prefill": on_gpu,  # vLLM 0.32 has no seeds for a prompt read in parts on a CPU
    }
    limit = constant_rotary_length(load_config_of(str(settings.start)))
    if limit is not None:  # vLLM takes the long factors for all texts if it may hold longer ones
        chosen["max_model_len"] = limit
    if settings.lora is not None:
        rank = min((r for r in ADAPTER_RANKS if r >= settings.lora.r), default=settings.lora.r)
        chosen |= {"enable_lora": True, "max_loras": 1, "max_cpu_loras": 1, "max_lora_rank": rank}
    chosen |= settings.options
    if on_gpu and chosen.get("enable_lora") and chosen["dtype"] == "float32":
        raise UserError(
            "engine: vllm has no float32 adapters on a GPU: set precision: bf16 or bf16-mixed, or train.lora: null"
        )
    return chosen


def _pack_tied_head(worker: Any) -> None:
    """On a CPU vLLM 0.32 keeps a packed copy of the LM head, and does not renew it where the head is the embedding."""
    head = getattr(worker.get_model(), "lm_head", None)
    if head is not None and worker.device.type == "cpu":
        head.quant_method.process_weights_after_loading(head)


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Turn what vLLM raises into a sentence. ``what``: it could not do."""
    try:
        yield
    except (ValueError, RuntimeError, NotImplementedError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"vLLM could not {what} ({type(error).__name__}: {reason}): change engine.options, or set engine: "
            "transformers"
        ) from error


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Put the process's random generators back, which vLLM seeds: training goes on as if it had not been there."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _completion(output: Any) -> Completion:
    ids = tuple(int(i) for i in output.token_ids)
    logps = tuple(float(at[i].logprob) for i, at in zip(ids, output.logprobs, strict=True))
    return Completion(ids, logps, output.finish_reason == "stop")
