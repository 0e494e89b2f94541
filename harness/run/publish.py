"""From finished stages to a result file: scoring is pure, so this needs no model and no judge."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.benchmark import Benchmark, Row, benchmark_result
from harness.budget.ledger import Ledger
from harness.errors import UserError
from harness.recipe.search import Point
from harness.run import plugins as registry
from harness.run.plan import RunPlan
from harness.score.results import RunResult, read_result, result_path, write_result
from harness.store.environment import environment
from harness.store.json_files import read_json, read_rows
from harness.store.stages import Stage, known


def _ledger(plan: RunPlan, *stages: Stage | None) -> Ledger:
    total = Ledger()
    for stage in stages:
        if stage is not None and plan.store.done(stage):
            manifest = plan.store.manifest(stage)
            if "ledger" in manifest:
                total = total.merge(Ledger.load(manifest["ledger"]))
    return total


def _base(plan: RunPlan) -> dict[str, Any]:
    origin = registry.plugins("methods").get(plan.method.name) or registry.plugins("methods")["start"]
    counts = {}
    if plan.store.done(plan.pairs):
        counts = read_json(plan.store.path(plan.pairs) / "counts.json")
    return {
        "comparison_key": plan.comparison_key,
        "recipe": plan.recipe.name,
        "recipe_hash": plan.recipe.hash,
        "description": plan.recipe.description,
        "method": plan.name,
        "variant_of": plan.method.name if plan.name != plan.method.name else "",
        "reference": plan.recipe.reference,
        "method_summary": _summary(plan),
        "method_paper": plan.method.paper,
        "method_origin": f"{origin.origin} {origin.version}",
        "method_options": plan.method.shown(),
        "seed": plan.seed,
        "budget": asdict(plan.budget),
        "start": {"model": plan.recipe.model if "/" not in plan.recipe.model else "custom", "key": plan.start.key},
        "oracles": {"training": plan.oracle, "evaluation": plan.eval_oracle},
        "data": {"pairs": plan.pairs.key, **counts, **({"overlap": plan.overlap} if plan.overlap else {})},
        "environment": _environment(plan),
        "prices": plan.recipe.prices.model_dump() if plan.recipe.prices else {},
    }


def _environment(plan: RunPlan) -> dict[str, Any]:
    """Where the policy was made (the pairs, for the start policy)."""
    stage = plan.policy() if plan.method.trains else plan.pairs
    if stage is not None and plan.store.done(stage):
        found: dict[str, Any] = plan.store.manifest(stage).get("environment", {})
        if found:
            return found
    return environment()


def _summary(plan: RunPlan) -> str:
    variant = plan.recipe.variants.get(plan.name)
    return (variant.summary if variant else "") or plan.method.summary


def failed(plan: RunPlan, reason: str) -> RunResult:
    """The record of a run that did not finish: its row says why."""
    return RunResult(run_key="failed", status="failed", error=reason, trials=plan.read_trials(), **_base(plan))


def _search_ledger(plan: RunPlan, kept: Point | None) -> Ledger:
    """What the search cost beyond the run itself: the trials not kept, and scoring all of them."""
    others = [plan.train(point, 0) for point in plan.points if point != kept or plan.seed > 0]
    return _ledger(plan, *others, *(plan.tune(point) for point in plan.points))


def assemble(plan: RunPlan) -> RunResult:
    """The record of a finished run, scored from its stored judgments."""
    judged = [b for b in plan.benchmarks if plan.judged(b)]
    scored = []
    for benchmark in judged:
        rows = _compared(plan, benchmark, read_rows(plan.store.path(known(plan.judgments(benchmark))) / "rows.jsonl"))
        found = benchmark_result(benchmark, rows, plan.protocol(benchmark), plan.judge_of(benchmark))
        scored.append(found.model_copy(update={"unanswered": plan.unanswered(benchmark)}))
    best = plan.best() if plan.method.trains else None
    spent, log = Ledger(), []
    if best is not None:
        policy = plan.train(best, plan.seed)
        log = read_json(plan.store.path(policy) / "log.json")
        spent = _ledger(plan, policy)
    over = plan.budget.spent(spent) - plan.budget.limit if best is not None else 0.0
    ended = plan.budget.stopped_by(spent) if best is not None else ""
    for benchmark in judged:
        spent = spent.merge(_ledger(plan, plan.answers(benchmark), plan.judgments(benchmark), plan.versus(benchmark)))
    return RunResult(
        run_key=plan.run_key,
        status="ok",
        learning_rate=best.learning_rate if best else None,
        trials=plan.read_trials(),
        ledger=spent.dump(),
        tuning_ledger=_search_ledger(plan, best).dump(),
        overshoot=round(over, 3),
        stopped_by=ended,
        benchmarks=scored,
        train_log=[{k: round(float(v), 6) for k, v in row.items()} for row in log],
        **_base(plan) | ({"method_options": plan.configured(best).shown()} if best else {}),
    )


def _compared(plan: RunPlan, benchmark: Benchmark, rows: list[Row]) -> list[Row]:
    """Rows with the oracle's verdicts against the reference method's answers, where there are any."""
    stage = plan.versus(benchmark)
    if stage is None or not plan.store.done(stage):
        return rows
    won = {r["id"]: r["won"] for r in read_rows(plan.store.path(stage) / "rows.jsonl")}
    told = {"reference": plan.recipe.reference}
    return [r | told | {"reference_won": won[r["id"]]} if "text" in r and r["id"] in won else r for r in rows]


def publish(plan: RunPlan, results: Path) -> RunResult:
    """Write the result of a finished run, unless the file already holds exactly it."""
    path = path_of(plan, results)
    key = plan.run_key
    if path.is_file():
        existing = read_result(path)
        if existing.run_key == key:
            return existing
    result = assemble(plan)
    write_result(path, result)
    return result


def publish_failure(plan: RunPlan, results: Path, reason: str) -> None:
    """Write why a run failed, unless an earlier result of the same settings stands there: that one is kept."""
    path = path_of(plan, results)
    if path.is_file() and read_result(path).status == "ok" and read_result(path).comparison_key == plan.comparison_key:
        return
    write_result(path, failed(plan, reason))


def check_folder(runs: list[RunPlan], results: Path) -> None:
    """Refuse a results folder that holds runs made under other settings.

    Raises:
        UserError: names the file and the mends.
    """
    for path in sorted(path_of(runs[0], results).parent.parent.glob("*/seed-*.json")):
        if read_result(path).comparison_key != runs[0].comparison_key:
            raise UserError(
                f"{path} was made under other settings (start, pairs, budget, training or search) and cannot share a "
                "table with this comparison: rename the recipe, remove that folder, or set --results"
            )


def path_of(plan: RunPlan, results: Path) -> Path:
    """Result file of a run."""
    return result_path(results, plan.recipe.name, plan.budget.name, plan.name, plan.seed)
