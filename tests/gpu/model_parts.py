"""Parts of the GPU check that ask models: a CPU and a GPU side by side, speed and memory at the shape of 8B, vLLM."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any

from gpu.figures import Figure, Setting, Skipped
from gpu.sources import SIZE_8B, SIZE_SMALL, fresh, peak_gib, random_llama, save_random_llama, synchronize

MMLU_QUESTIONS = 14_042


def _policy(model: Any, batch_size: int = 64) -> Any:
    """A metered policy without a cache."""
    from harness.answer.policy import Policy
    from harness.answer.tiny_model import build_tokenizer
    from harness.budget.ledger import Ledger
    from harness.budget.meter import Meter

    meter = Meter(Ledger())
    return Policy(model, build_tokenizer(), "check", meter=meter, cache=None, batch_size=batch_size)


def _ids(seed: int, count: int) -> list[int]:
    """Token ids that differ by seed."""
    return [(7 * seed + 13 * place + seed * place) % 250 + 1 for place in range(count)]


def compare_devices(setting: Setting) -> list[Figure]:
    """One float32 model on the CPU and on the GPU: greedy ids, sampled ids, log-probabilities. And in bfloat16."""
    import torch

    from harness.answer.tiny_model import build_tiny
    from sail.types import Request

    requests = [Request(tuple(_ids(i, 20 + i)), 48, heat, ("check", i)) for i in range(32) for heat in (0.0, 1.0)]
    model = build_tiny().model.eval()
    reference = _policy(model).sample(requests)
    rows = [(request.prompt, answer.ids) for request, answer in zip(requests, reference, strict=True)]
    logps = [sum(row) for row in _policy(model).token_logps(rows, 16)]
    figures = []
    for dtype, exact in ((torch.float32, True), (torch.bfloat16, False)):
        other = _policy(build_tiny().model.eval().to(setting.device, dtype))
        answers = other.sample(requests)
        for name, heat in (("greedy", 0.0), ("sampled", 1.0)):
            both = [
                (a.ids, b.ids)
                for a, b, request in zip(answers, reference, requests, strict=True)
                if request.temperature == heat
            ]
            share = 100 * sum(a == b for a, b in both) / len(both)
            least = 95 if setting.device == "cuda" else 100
            goal = f"{least}%" if exact else ""
            what = f"{name} answers equal to the CPU's, {str(dtype).removeprefix('torch.')}"
            figures.append(Figure(what, share, "%", goal, share >= least if exact else None))
        largest = max(abs(sum(a) - b) for a, b in zip(other.token_logps(rows, 16), logps, strict=True))
        what = f"largest difference of a log-probability, {str(dtype).removeprefix('torch.')}"
        figures.append(
            Figure(what, largest, "nats an answer", "below 0.01" if exact else "", largest < 0.01 if exact else None)
        )
    return figures


def measure_8b(setting: Setting) -> list[Figure]:
    """A random model of 8B's shape: sampling, questions like MMLU's, and memory of log-probabilities."""
    model = random_llama(setting.device, **(SIZE_SMALL if setting.small else SIZE_8B))
    return [*_sampling(model, setting.small), *_questions(model, setting.small), *_log_probabilities(model, setting)]


def _sampling(model: Any, small: bool) -> list[Figure]:
    from sail.types import Request

    new, prompt = (8, 16) if small else (96, 512)
    figures = []
    for rows in (16,) if small else (16, 64, 107):
        requests = [Request(tuple(_ids(i, prompt)), new, 1.0, ("speed", i)) for i in range(rows)]
        policy = _policy(model, rows)
        fresh()
        synchronize()
        began = time.perf_counter()
        answers = policy.sample(requests)
        synchronize()
        rate = sum(len(answer.ids) for answer in answers) / (time.perf_counter() - began)
        figures.append(Figure(f"sampler, {rows} answers at once", rate, "tokens a second"))
        if (peak := peak_gib()) is not None:
            figures.append(Figure(f"sampler, {rows} answers at once: peak memory", peak, "GiB"))
    return figures


def _questions(model: Any, small: bool) -> list[Figure]:
    """Subjects whose questions share 600 tokens of examples; 80 of their own, four options of a token each."""
    from harness.answer.continuations import score_continuations

    subjects, questions, shared, own = (2, 4, 40, 8) if small else (20, 12, 600, 80)
    rows = [
        ([*_ids(subject, shared), *_ids(1000 * subject + question, own)], [60 + option])
        for subject in range(subjects)
        for question in range(questions)
        for option in range(4)
    ]
    figures = []
    for batch_size in (16, 64):
        fresh()
        synchronize()
        began = time.perf_counter()
        score_continuations(model, rows, pad_id=257, batch_size=batch_size)
        synchronize()
        rate = subjects * questions / (time.perf_counter() - began)
        figures.append(Figure(f"questions like MMLU's, batches of {batch_size}", rate, "a second"))
        figures.append(Figure(f"all {MMLU_QUESTIONS:,} in batches of {batch_size}", MMLU_QUESTIONS / rate / 60, "min"))
    return figures


def _log_probabilities(model: Any, setting: Setting) -> list[Figure]:
    """16 answers of 1,024 tokens: whole logits would take 16 x 1,024 x 128,256 x 4 bytes, 7.8 GiB, several times."""
    import torch

    rows = [(_ids(i, 64), _ids(100 + i, 32 if setting.small else 1024)) for i in range(16)]
    policy = _policy(model)
    fresh()
    weights = torch.cuda.memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    synchronize()
    began = time.perf_counter()
    policy.token_logps(rows, 16)
    synchronize()
    rate = sum(len(answer) for _, answer in rows) / (time.perf_counter() - began)
    figures = [Figure("log-probabilities", rate, "tokens a second")]
    if (peak := peak_gib()) is not None:
        beyond = peak - weights
        figures.append(Figure("log-probabilities: memory beyond the weights", beyond, "GiB", "below 4", beyond < 4))
    return figures


def measure_vllm(setting: Setting) -> list[Figure]:
    """vLLM on random weights of 8B's shape: 256 answers of 256 tokens to prompts of 512."""
    if find_spec("vllm") is None:
        raise Skipped("vllm is not installed")
    if setting.device == "cpu":
        raise Skipped("vllm is measured on a GPU only (python -m nox -s vllm checks it on a CPU)")
    import vllm

    folder = save_random_llama(setting.folder / "model", "cpu", **SIZE_SMALL)
    _rewrite_config(folder / "config.json")
    engine = vllm.LLM(str(folder), load_format="dummy", max_model_len=1024, gpu_memory_utilization=0.85)
    prompts = [{"prompt_token_ids": _ids(i, 512)} for i in range(256)]
    settings = vllm.SamplingParams(temperature=1.0, max_tokens=256, ignore_eos=True)
    engine.generate(prompts[:8], settings, use_tqdm=False)
    began = time.perf_counter()
    answers = engine.generate(prompts, settings, use_tqdm=False)
    rate = sum(len(answer.outputs[0].token_ids) for answer in answers) / (time.perf_counter() - began)
    return [Figure(f"vLLM {vllm.__version__}, 256 answers at once", rate, "tokens a second")]


def _rewrite_config(file: Any) -> None:
    """Give a saved configuration the shape of 8B: vLLM makes the weights up."""
    import json

    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(config | SIZE_8B | {"head_dim": 128, "torch_dtype": "bfloat16"}), encoding="utf-8")
