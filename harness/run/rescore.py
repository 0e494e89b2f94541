"""``rescore``: scores of finished runs computed again from what is stored, with no model and no judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import Recipe
from harness.run.plan import RunPlan, make_run
from harness.run.publish import assemble
from harness.score.metrics import evaluate
from harness.score.results import BenchmarkResult, Metric, RunResult, read_result, result_folders, write_result
from harness.store.stages import Store

SHOWN = ("value", "low", "high", "mdd", "n_valid", "n_total")
LAST_DIGIT = 1.5e-6  # numbers are stored to six decimals


class Rescored(NamedTuple):
    """Scores computed again, and from what."""

    benchmarks: list[BenchmarkResult]
    source: str


def rescore(recipe: str | None, results: Path | None, store: Path, report: Callable[[str], None]) -> int:
    """Compute all scores in the results folders again, of one recipe (a name or a YAML file) or of all.

    A run whose stages are in the store is scored from its stored judgments; any other from the per-prompt columns and
    estimators in its result file. What does not follow from either (ledger, environment, log) stays as it is.

    Args:
        recipe: a name or a YAML file; None: all.
        results: folder of the results; None: all that :func:`harness.score.results.results_read` names.
        store: folder of finished stages.
        report: gets one line a result: what changed, or that nothing did.

    Returns:
        the number of result files that changed. Leaderboards are rewritten.

    Raises:
        UserError: no results there, or a broken result file.
    """
    from harness.report.leaderboard import write_leaderboard

    named = load_recipe(recipe) if recipe and (recipe in builtin_recipes() or _is_yaml(recipe)) else None
    count = 0
    for folder in result_folders(results, named.name if named else recipe):
        loaded = named or _builtin(folder.parent.name)
        for path in sorted(folder.glob("*/seed-*.json")):
            result = read_result(path)
            rescored, source = rescored_run(result, loaded, Store(store))
            rescored = [_with_old_digits(b, result.benchmark(b.benchmark)) for b in rescored]
            changes = differences(result.benchmarks, rescored)
            unchanged = rescored == result.benchmarks
            if not unchanged:
                write_result(path, result.model_copy(update={"benchmarks": rescored}))
                count += 1
            summary = "; ".join(changes) or ("unchanged" if unchanged else "columns or titles changed")
            report(f"{path} ({source}): {summary}")
        write_leaderboard(folder)
    return count


def rescored_run(result: RunResult, recipe: Recipe | None, store: Store) -> Rescored:
    """Scores of a result computed again.

    Args:
        result: as it was published.
        recipe: the recipe it was made from, if it can be known.
        store: where its stages may be.
    """
    if result.status != "ok":
        return Rescored(result.benchmarks, "a failed run")
    plan = _plan(result, recipe, store)
    judged = None if plan is None else _from_judgments(plan, result)
    if judged is not None:
        return Rescored(judged, "from stored judgments")
    evaluated = [b.model_copy(update={"metrics": [evaluate(m, b.items) for m in b.metrics]}) for b in result.benchmarks]
    return Rescored(evaluated, "from its columns")


def differences(old: Sequence[BenchmarkResult], new: Sequence[BenchmarkResult]) -> list[str]:
    """What changed between two scorings: ``benchmark metric: old -> new``."""
    before, after = ({(b.benchmark, m.name): m for b in results for m in b.metrics} for results in (old, new))
    lines = []
    for key in dict.fromkeys([*before, *after]):
        one, two = before.get(key), after.get(key)
        texts = [_metric_text(m) for m in (one, two)]
        if one is None or two is None or any(getattr(one, k) != getattr(two, k) for k in SHOWN):
            lines.append(f"{' '.join(key)}: {' -> '.join(texts)}")
        elif one.estimator != two.estimator:
            lines.append(f"{' '.join(key)}: estimator {one.estimator.kind} -> {two.estimator.kind}")
    return lines


def _with_old_digits(new: BenchmarkResult, old: BenchmarkResult | None) -> BenchmarkResult:
    """The new scores with the old number wherever they differ in the last stored digit alone, as machines do."""
    before = {m.name: m for m in old.metrics} if old else {}
    return new.model_copy(update={"metrics": [_with_old_digit(m, before.get(m.name)) for m in new.metrics]})


def _with_old_digit(new: Metric, old: Metric | None) -> Metric:
    pairs = {k: (getattr(old, k), getattr(new, k)) for k in SHOWN[:4]} if old else {}
    close = {k: a for k, (a, b) in pairs.items() if a is not None and b is not None and abs(a - b) <= LAST_DIGIT}
    return new.model_copy(update=close)


def _metric_text(metric: Metric | None) -> str:
    if metric is None:
        return "absent"
    value, low, high, mdd = ("n/a" if (v := getattr(metric, k)) is None else str(v) for k in SHOWN[:4])
    return f"{value} [{low}, {high}], mdd {mdd}, n {metric.n_valid} / {metric.n_total}"


def _plan(result: RunResult, recipe: Recipe | None, store: Store) -> RunPlan | None:
    """The run behind a result; None where it cannot be known here (another recipe, a plugin or data not there)."""
    if recipe is None:
        return None
    names = [b.benchmark for b in result.benchmarks]
    try:
        plan = make_run(recipe, result.budget["name"], result.method, result.seed, names, store)
        return plan if plan.comparison.key == result.comparison_key else None
    except UserError:
        return None


def _from_judgments(plan: RunPlan, result: RunResult) -> list[BenchmarkResult] | None:
    """Scores from the judgments in the store, if these are the stages that the result was made from: a store in which
    they were made anew has spent otherwise."""
    if plan.policy is None or not plan.states[plan.policy.key].done:
        return None
    assembled = assemble(plan)
    return assembled.benchmarks if assembled.ledger == result.ledger else None


def _builtin(name: str) -> Recipe | None:
    return load_recipe(name) if name in builtin_recipes() else None


def _is_yaml(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))
