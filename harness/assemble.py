"""From finished stages to a result file: scoring is pure, so this needs no model and no judge."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import __version__, registry
from harness.benchmark import score
from harness.budget import Ledger
from harness.plan import RunPlan
from harness.results import RunResult, read_result, result_path, write_result
from harness.store import Stage, read_json, read_rows

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")


def environment() -> dict[str, Any]:
    """Versions and hardware, without names of users, hosts or folders."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return {
        "sail_bench": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "libraries": found,
    }


def _ledger(plan: RunPlan, *stages: Stage | None) -> Ledger:
    total = Ledger()
    for stage in stages:
        if stage is not None and plan.store.done(stage):
            manifest = plan.store.manifest(stage)
            if "ledger" in manifest:
                total = total.merge(Ledger.load(manifest["ledger"]))
    return total


def _base(plan: RunPlan) -> dict[str, Any]:
    origin = registry.plugins("methods")[plan.method.name]
    counts = {}
    if plan.store.done(plan.pairs):
        counts = read_json(plan.store.path(plan.pairs) / "counts.json")
    return {
        "recipe": plan.recipe.name,
        "recipe_hash": plan.recipe.hash,
        "description": plan.recipe.description,
        "method": plan.method.name,
        "method_summary": plan.method.summary,
        "method_paper": plan.method.paper,
        "method_origin": f"{origin.origin} {origin.version}",
        "method_options": plan.method.config.model_dump(mode="json"),
        "seed": plan.seed,
        "budget": {"name": plan.budget.name, "axis": plan.budget.axis, "limit": plan.budget.limit},
        "start": {"model": plan.recipe.model if "/" not in plan.recipe.model else "custom", "key": plan.start.key},
        "data": {"pairs": plan.pairs.key, **counts},
        "environment": environment(),
    }


def failed(plan: RunPlan, reason: str) -> RunResult:
    """The record of a run that did not finish: its row says why."""
    return RunResult(run_key="failed", status="failed", error=reason, trials=plan.read_trials(), **_base(plan))


def assemble(plan: RunPlan) -> RunResult:
    """The record of a finished run, scored from its stored judgments."""
    scored = []
    for benchmark in plan.benchmarks:
        stage = plan.judgments(benchmark)
        assert stage is not None
        rows = read_rows(plan.store.path(stage) / "rows.jsonl")
        judge = plan.judge if benchmark.judged else None
        scored.append(score(benchmark, rows, plan.protocol(benchmark), judge))
    best = plan.best()
    spent, log = Ledger(), []
    if plan.method.trains and best is not None:
        policy = plan.train(best.learning_rate, plan.seed)
        log = read_json(plan.store.path(policy) / "log.json")
        spent = _ledger(plan, plan.pairs, policy)
    over = spent.get("train", plan.budget.axis) - plan.budget.limit if plan.method.trains else 0
    for benchmark in plan.benchmarks:
        spent = spent.merge(_ledger(plan, plan.answers(benchmark), plan.judgments(benchmark)))
    trials = [stage for rate in plan.learning_rates for stage in (plan.train(rate, 0), plan.tune(rate))]
    return RunResult(
        run_key=plan.run_key,
        status="ok",
        learning_rate=best.learning_rate if best else None,
        trials=plan.read_trials(),
        ledger=spent.dump(),
        tuning_ledger=_ledger(plan, *trials).dump(),
        overshoot=max(0, over),
        benchmarks=scored,
        train_log=[{k: round(float(v), 6) for k, v in row.items()} for row in log],
        **_base(plan),
    )


def publish(plan: RunPlan, results: Path) -> RunResult:
    """Write the result of a finished run, unless the file already holds exactly it."""
    path = path_of(plan, results)
    if path.is_file():
        existing = read_result(path)
        if existing.run_key == plan.run_key:
            return existing
    result = assemble(plan)
    write_result(path, result)
    return result


def path_of(plan: RunPlan, results: Path) -> Path:
    """Result file of a run."""
    return result_path(results, plan.recipe.name, plan.budget.name, plan.method.name, plan.seed)
