"""Results of runs made by hand, for what reads result files."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.score.metrics import evaluate, metric
from harness.score.results import BenchmarkResult, RunResult
from harness.store.json_files import digest
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


def judged_run(method: str, seed: int, *, strength: float, key: tuple[int, ...]) -> RunResult:
    """A run with rewards and verdicts on sets as long as the mini ones; its metrics have no values yet, which pages do
    not read.

    Args:
        method: its name.
        seed: of its training.
        strength: 0 for a policy like the start policy, 1 for one that always wins.
        key: of its random numbers.
    """
    rng = np.random.default_rng(key)
    sets = {
        "preference": (120, [metric("gold_reward", "gold reward", "share met", 1, "mean", "reward", primary=True)]),
        "alpaca_eval": (32, [metric("lc", "LC", "win %", 1, "length_controlled", "preference", primary=True)]),
        "arena_hard": (24, [metric("sc", "SC", "win %", 1, "style_controlled", "preference", primary=True)]),
    }
    benchmarks = []
    for name, (count, metrics) in sets.items():
        columns: dict[str, Any] = {"id": [f"{name}-{i}" for i in range(count)]}
        for column in ("reward", "preference"):
            columns[column] = np.clip(rng.normal(0.5 + strength / 4, 0.3, count), 0, 1).tolist()
        for column, most in {"length": 2000, "tokens": 500, "headers": 4, "lists": 12, "bolds": 9}.items():
            columns |= {side + column: rng.integers(0, most, count).tolist() for side in ("", "baseline_")}
        metrics += [metric(f"more-{i}", f"more {i}", "tokens", 0, "mean", "tokens") for i in range(6)]
        counts = {"n_valid": count, "n_total": count}
        benchmarks.append(
            BenchmarkResult(
                benchmark=name, title=name, label="mini", protocol={"p": name}, protocol_hash=digest({"p": name}),
                judge=None, metrics=[m.model_copy(update=counts) for m in metrics], items={"items": columns},
            )
        )  # fmt: skip
    return run_result(method, benchmarks, seed, learning_rate=1e-3)
