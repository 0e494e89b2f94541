"""Results and a store made by hand, for the report: four methods, one with a name that no page should run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.score.metrics import evaluate, metric
from harness.score.results import BenchmarkResult, Metric, RunResult, result_path, write_result
from harness.store.json_files import write_json, write_rows
from kit.results import run_result

HOSTILE = "</script><script>window.pwned = 1</script>"
HANDLER = "<img src=x onerror='window.pwned = 2'>"
ESCAPES = "\x1b[31mred\x1b[0m and \u202edesrever\u202c | pipe"
METHODS = ("start", "dpo", "sail-pr", f"mine {HANDLER}")
LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
CATEGORIES = ("writing", "math", "stem")


def _scored(
    name: str, title: str, columns: dict[str, list[Any]], metrics: list[Metric], **more: Any
) -> BenchmarkResult:
    items = {"items": columns}
    return BenchmarkResult(
        benchmark=name, title=title, label="mini", protocol={"benchmark": name}, protocol_hash=name[:4] * 4,
        judge=more.get("judge"), metrics=[evaluate(m, items) for m in metrics], items=items,
    )  # fmt: skip


def _preference(rng: np.random.Generator, lift: float, count: int) -> BenchmarkResult:
    reward = [float(v) for v in rng.choice([0.0, 0.5, 1.0], count, p=[0.4 - lift, 0.3, 0.3 + lift])]
    columns: dict[str, list[Any]] = {
        "id": [f"p-{i}" for i in range(count)],
        "reward": reward,
        "win": [float(v) for v in rng.choice([0.0, 0.5, 1.0], count)],
        "kl": [float(v) for v in rng.normal(4 * lift, 0.1, count)],
        "tokens": [int(v) for v in rng.integers(20, 60, count)],
    }
    metrics = [
        metric("gold_reward", "gold reward", "share met", 1, "mean", "reward", primary=True),
        metric("kl", "KL to start", "nats/answer", 0, "mean", "kl"),
        metric("length", "length", "tokens", 0, "mean", "tokens"),
    ]
    return _scored("preference", "Preference", columns, metrics)


def _curve(rng: np.random.Generator, lift: float, early: float) -> BenchmarkResult:
    columns: dict[str, list[Any]] = {"id": [f"p-{i}" for i in range(30)]}
    metrics = []
    for share, gain in (("0.5", early), ("1", lift)):
        columns[f"reward_{share}"] = [float(v) for v in np.clip(rng.normal(0.4 + gain, 0.2, 30), 0, 1)]
        columns[f"kl_{share}"] = [float(v) for v in rng.normal(4 * gain, 0.1, 30)]
        metrics += [
            metric(f"reward_{share}", f"gold reward at {share}", "share met", 1, "mean", f"reward_{share}"),
            metric(f"kl_{share}", "KL to start", "nats/answer", 0, "mean", f"kl_{share}"),
        ]
    return _scored("curve", "Learning curve", columns, metrics)


def _arena(rng: np.random.Generator) -> BenchmarkResult:
    columns: dict[str, list[Any]] = {
        "id": [f"a-{i}" for i in range(12)],
        "category": [CATEGORIES[i % 3] for i in range(12)],
        "preference": [float(v) for v in rng.choice([0.0, 0.5, 1.0], 12)],
    }
    judge = {"kind": "endpoint", "model": f"judge {HANDLER}", "endpoint": "0" * 16}
    metrics = [metric("win_rate", "Arena", "win %", 1, "percent", "preference", primary=True)]
    return _scored("arena", "Arena", columns, metrics, judge=judge)


def _log(lift: float, displaced: bool) -> list[dict[str, float]]:
    return [
        {
            "step": float(step),
            "rewards/chosen": -0.02 * step if displaced else lift * step / 10,
            "rewards/rejected": -0.05 * step,
            "rewards/margins": (0.03 if displaced else 0.05 + lift / 10) * step,
            "rewards/accuracies": min(1.0, 0.5 + step / 30),
            "loss": 0.69 - 0.01 * step,
        }
        for step in range(1, 21)
    ]


def _rows(result: BenchmarkResult, method: str, length: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(len(method))
    syllables = [a + b for a in "bdfklmnprst" for b in "aeiou"]
    vocabulary = ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(1000)]
    rows = []
    for place, name in enumerate(result.items["items"]["id"]):
        row: dict[str, Any] = {"id": name, "prompt": f"Prompt {place} of {result.title}? {HOSTILE}"}
        text = f"{method} answers {ESCAPES} {HOSTILE} " + " ".join(rng.choice(vocabulary, length // 5))
        answer = {"text": text, "tokens": len(text) // 4, "truncated": place % 7 == 0}
        if result.benchmark == "arena":
            label = LABELS[(place + len(method)) % 5]
            games = [{"label": label, "judgment": f"My verdict {HOSTILE}: [[{label}]]", "judge": "j"} for _ in (1, 2)]
            row |= {"category": CATEGORIES[place % 3], "answer": answer, "games": games}
        else:
            row |= answer
        rows.append(row)
    return rows


def write_comparison(folder: Path, count: int = 40, length: int = 60) -> Path:
    """Write results and their store under ``folder``; the comparison is ``results/demo/pairs-96``.

    Args:
        folder: gets ``results`` and ``store``.
        count: prompts of the benchmark ``preference``.
        length: characters of an answer, about.
    """
    for number, method in enumerate(METHODS):
        rng, trains = np.random.default_rng(number), method != "start"
        lift, early = 0.08 * number, (0.0, 0.3, 0.02, 0.1)[number]
        benchmarks = [_preference(rng, lift, count), _curve(rng, lift, early), _arena(rng)]
        stages = {b.benchmark: f"judgments-{number}{b.benchmark}" for b in benchmarks if b.benchmark != "curve"}
        result = run_result(
            method, benchmarks, **_training(number, trains), stages=stages | {"policy": f"train-{number}"}
        )
        write_result(result_path(folder / "results", "demo", "pairs-96", f"m{number}", 0), result)
        _write_stages(folder / "store" / "stages", result, length)
    return folder / "results" / "demo" / "pairs-96"


def _training(number: int, trains: bool) -> dict[str, Any]:
    spent = {
        "pairs": 96,
        "steps": 20,
        "tokens": 1000 * number,
        "seconds": 60.0 * number,
        "forward_flops": 4e11 * number,
    }
    ledger = {"phases": {"train": spent, "eval": {"seconds": 30.0, "prefill_flops": 1e12}}, "peak_memory_bytes": 2**30}
    if not trains:
        return {"ledger": {"phases": {"eval": {"seconds": 30.0}}, "peak_memory_bytes": 2**30}}
    return {"ledger": ledger, "learning_rate": 1e-3, "train_log": _log(0.08 * number, displaced=number == 2)}


def _write_stages(stages: Path, result: RunResult, length: int) -> None:
    for scored in result.benchmarks:
        if scored.benchmark in result.stages:
            folder = stages / result.stages[scored.benchmark]
            write_rows(folder / "rows.jsonl", _rows(scored, result.method, length))
            write_json(folder / "manifest.json", {"kind": "judgments"})
    predicted = {"predicted": {"pairs": 90.0, "flops": 5e11}} if result.learning_rate else {}
    write_json(stages / result.stages["policy"] / "manifest.json", {"kind": "train"} | predicted)
