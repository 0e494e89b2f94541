"""Results of runs made by hand, for what reads result files."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.score.metrics import evaluate, metric
from harness.score.results import BenchmarkResult, RunResult
from harness.store.versions import VERSIONS

PEOPLE = 60


def details(page: str, heading: str) -> str:
    """What stands in a page's block that a reader opens."""
    opening = f"<details><summary>{heading}</summary>"
    assert page.count(opening) == 1, heading
    return page.split(opening)[1].split("</details>")[0]


def preference_result(rewards: np.ndarray, kls: np.ndarray, protocol: str = "a" * 16) -> BenchmarkResult:
    items: dict[str, Any] = {"items": {"id": list(range(PEOPLE)), "reward": rewards.tolist(), "kl": kls.tolist()}}
    metrics = [
        metric("gold_reward", "gold reward", "share met", 1, "mean", "reward", primary=True),
        metric("kl", "KL to start", "nats/answer", 0, "mean", "kl"),
    ]
    return BenchmarkResult(
        benchmark="preference", title="Preference", label="mini", protocol={"p": protocol}, protocol_hash=protocol,
        judge=None, metrics=[evaluate(m, items) for m in metrics], items=items,
    )  # fmt: skip


def run_result(method: str, benchmarks: list[BenchmarkResult], seed: int = 0, **changes: Any) -> RunResult:
    phases = {"train": {"pairs": 96, "steps": 12, "tokens": 1000, "seconds": 2.5}}
    base: dict[str, Any] = {
        "run_key": "k", "comparison_key": "c",
        "recipe": "demo", "recipe_hash": "h", "description": "A demo.", "method": method,
        "method_summary": "s", "method_paper": "", "method_origin": "sail-bench 0", "method_options": {}, "seed": seed,
        "budget": {"name": "pairs-96", "axis": "pairs", "limit": 96}, "status": "ok",
        "start": {"model": "tiny", "key": "start-1"}, "data": {"pairs": "pairs-1"}, "benchmarks": benchmarks,
        "ledger": {"phases": phases, "peak_memory_bytes": 2**30},
        "tuning_ledger": {"phases": {}, "peak_memory_bytes": 0},
        "versions": dict(VERSIONS),
        "environment": {"sail_bench": "0", "python": "3", "cores": 2, "libraries": {}},
    }  # fmt: skip
    return RunResult(**(base | changes))
