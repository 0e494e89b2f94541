"""From finished stages to a result file: scoring is pure, so this needs no model and no judge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.benchmark import Row, benchmark_result
from harness.budget.ledger import Ledger
from harness.errors import UserError
from harness.run.nodes import EvaluationNodes, Node
from harness.run.plan import RunPlan, configured
from harness.run.plugins import plugins
from harness.score.results import RunResult, read_result, result_path, write_result
from harness.store.environment import environment
from harness.store.json_files import digest, file_digest, read_json, read_rows
from harness.store.redaction import redacted
from harness.store.sealed import read_sealed, write_sealed
from harness.store.stage_files import content_hash
from harness.store.versions import SCORE_VERSION, raised_since, versions_of

_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./-]+)?")
"""``org/name``, perhaps with a revision; anything else is a path, which no result file names."""

WEIGHTS, PAIRS_FILES, ROWS = ("*.safetensors",), ("train.jsonl", "heldout.jsonl"), ("rows.jsonl",)
"""Files of stages whose hashes a result carries."""


def _ledger(plan: RunPlan, *nodes: Node | None) -> Ledger:
    """What finished nodes spent, added up."""
    store, total = plan.comparison.store, Ledger()
    for node in nodes:
        if node is not None and store.done(node.stage):
            manifest = store.manifest(node.stage)
            if "ledger" in manifest:
                total = total.merge(Ledger.load(manifest["ledger"]))
    return total


def _base(plan: RunPlan) -> dict[str, Any]:
    """Fields that finished and failed runs have."""
    comparison, facts = plan.comparison, plan.comparison.facts
    recipe, store = comparison.recipe, comparison.store
    origin = plugins("methods").get(plan.method.name) or plugins("methods")["start"]
    counts = {}
    if store.done(facts.pairs.stage):
        counts = read_json(store.path(facts.pairs.stage) / "counts.json")
    overlap = comparison.overlap
    variant = recipe.variants.get(plan.name)
    return {
        "comparison_key": comparison.key,
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "description": recipe.description,
        "method": plan.name,
        "variant_of": plan.method.name if plan.name != plan.method.name else "",
        "reference": recipe.reference,
        "method_summary": (variant.summary if variant else "") or plan.method.summary,
        "method_paper": plan.method.paper,
        "method_origin": f"{origin.origin} {origin.version}",
        "method_options": plan.method.shown(),
        "seed": plan.seed,
        "budget": asdict(comparison.budget),
        "start": _start(plan),
        "oracles": {"training": facts.oracle, "evaluation": facts.eval_oracle},
        "data": {"pairs": facts.pairs.key, **counts, **({"overlap": overlap} if overlap else {})},
        "environment": _environment(plan),
        "versions": _versions(plan),
        "prices": recipe.prices.model_dump() if recipe.prices else {},
    }


def _versions(plan: RunPlan) -> dict[str, int]:
    """Versions of the kinds of stages that the result is made of."""
    pairs = "imported pairs" if plan.comparison.recipe.data.imported else "pairs"
    training = ("training", "search") if plan.method.trains else ()
    return versions_of("start", "sampler", pairs, *training, "log-probabilities", "scores")


def _start(plan: RunPlan) -> dict[str, Any]:
    """The start policy, its name if it is on the Hub, and the date in prompts where its chat template writes one."""
    comparison, node = plan.comparison, plan.comparison.facts.start
    model, store = comparison.recipe.model, comparison.store
    day = store.manifest(node.stage).get("chat_date") if store.done(node.stage) else None
    return {
        "model": model if "/" not in model else "custom",
        **({"hub": model} if _HUB_NAME.fullmatch(model) and not Path(model).exists() else {}),
        "key": node.key,
        **({"chat_date": day} if day else {}),
    }


def _environment(plan: RunPlan) -> dict[str, Any]:
    """Where the policy was made (the pairs, for the start policy)."""
    store = plan.comparison.store
    node = plan.policy if plan.method.trains else plan.comparison.facts.pairs
    if node is not None and store.done(node.stage):
        recorded: dict[str, Any] = store.manifest(node.stage).get("environment", {})
        if recorded:
            return recorded
    return environment()


def failed_result(plan: RunPlan, reason: str) -> RunResult:
    """The record of a run that did not finish: its row says why."""
    return RunResult(run_key="failed", status="failed", error=reason, trials=list(plan.scores), **_base(plan))


def _search_ledger(plan: RunPlan) -> Ledger:
    """What the search cost beyond the run itself: the trials not kept, and scoring all of them."""
    others = [t.train for t in plan.trials if t.point != plan.winner.point or plan.seed > 0]
    return _ledger(plan, *others, *(t.tune for t in plan.trials))


def assemble(plan: RunPlan) -> RunResult:
    """The record of a finished run, scored from its stored judgments."""
    comparison, store = plan.comparison, plan.comparison.store
    evaluated = [(b, plan.evaluations[b.name]) for b in plan.benchmarks if plan.evaluations]
    judged = [(b, nodes) for b, nodes in evaluated if store.done(nodes.judgments.stage)]
    scored = []
    for benchmark, nodes in judged:
        rows = _with_verdicts(plan, nodes, read_rows(store.path(nodes.judgments.stage) / "rows.jsonl"))
        facts = comparison.facts
        result = benchmark_result(benchmark, rows, facts.protocols[benchmark.name], facts.judges[benchmark.name])
        manifest = store.manifest(nodes.judgments.stage)
        judged_facts = {
            "unanswered": int(manifest.get("unanswered", 0)),
            "fault": str(manifest.get("fault", "")),
            "replaced": result.replaced + int(manifest.get("replaced", 0)),
        }
        scored.append(result.model_copy(update=judged_facts))
    point = plan.winner.point
    spent, log, overshoot, ended = Ledger(), [], 0.0, ""
    if point is not None and plan.policy is not None:
        log = read_json(store.path(plan.policy.stage) / "log.json")
        spent = _ledger(plan, plan.policy)
        overshoot = comparison.budget.spent(spent) - comparison.budget.limit
        ended = comparison.budget.stopped_by(spent)
    for _, nodes in judged:
        spent = spent.merge(_ledger(plan, *nodes.nodes))
    return RunResult(
        run_key=run_key(plan),
        status="ok",
        learning_rate=point.learning_rate if point else None,
        trials=list(plan.scores),
        ledger=spent.dump(),
        tuning_ledger=_search_ledger(plan).dump(),
        overshoot=round(overshoot, 3),
        stopped_by=ended,
        benchmarks=scored,
        pending=[b.title for b, nodes in plan.evaluated if not store.done(nodes.judgments.stage)],
        train_log=[{k: round(float(v), 6) for k, v in row.items()} for row in log],
        stages=_stages(plan),
        contents=_contents(plan),
        **_base(plan) | ({"method_options": configured(plan, point).shown()} if point else {}),
    )


def _stages(plan: RunPlan) -> dict[str, str]:
    """Keys of the policy's stage and, by benchmark, of the judged rows: where a report finds answers."""
    policy = {"policy": plan.policy.key} if plan.policy is not None else {}
    judged = {b.name: plan.evaluations[b.name].judgments for b in plan.benchmarks if plan.evaluations}
    return policy | {name: node.key for name, node in judged.items() if plan.comparison.store.done(node.stage)}


def _contents(plan: RunPlan) -> dict[str, str]:
    """Hashes of what the stages hold that the result is made of, where the store recorded them."""
    facts, store = plan.comparison.facts, plan.comparison.store
    weights = {"start": facts.start, **({"policy": plan.policy} if plan.policy is not None else {})}
    judged = {b.name: plan.evaluations[b.name].judgments for b in plan.benchmarks if plan.evaluations}
    patterns = dict.fromkeys(weights, WEIGHTS) | {"pairs": PAIRS_FILES} | dict.fromkeys(judged, ROWS)
    nodes = weights | {"pairs": facts.pairs} | judged
    hashes = {name: content_hash(store.path(node.stage), *patterns[name]) for name, node in nodes.items()}
    return {name: value for name, value in hashes.items() if value}


def _with_verdicts(plan: RunPlan, nodes: EvaluationNodes, rows: list[Row]) -> list[Row]:
    """Rows with the oracle's verdicts against the reference method's answers, where there are any."""
    store = plan.comparison.store
    if nodes.versus is None or not store.done(nodes.versus.stage):
        return rows
    won = {r["id"]: r["won"] for r in read_rows(store.path(nodes.versus.stage) / "rows.jsonl")}
    reference = {"reference": plan.comparison.recipe.reference}
    return [r | reference | {"reference_won": won[r["id"]]} if "text" in r and r["id"] in won else r for r in rows]


def run_key(plan: RunPlan) -> str:
    """Hash of everything that decides the result file: the recipe and the manifests (ledgers and environments
    included) of the stages it is made of."""
    comparison, store = plan.comparison, plan.comparison.store
    evaluations = [plan.evaluations[b.name] for b in plan.benchmarks if plan.evaluations]
    nodes = [comparison.facts.pairs, *(t.train for t in plan.trials), *(t.tune for t in plan.trials)]
    nodes += [node for e in evaluations for node in (plan.policy, e.answers, e.judgments) if node]
    nodes += [e.versus for e in evaluations if e.versus]
    manifests = {n.key: store.manifest(n.stage) for n in nodes if store.done(n.stage)}
    in_order = [manifests[n.key] for n in nodes if n.key in manifests]
    overlap = [comparison.overlap] if comparison.overlap else []
    facts = [SCORE_VERSION, comparison.recipe.hash, comparison.budget.name, plan.name, plan.seed, in_order, *overlap]
    return digest(facts)


def publish(plan: RunPlan, results: Path) -> RunResult:
    """Write the result of a finished run, unless the file already holds exactly it.

    The store records the hash of what was written, so that a file that was damaged or edited since is written again.
    """
    path, key = path_of(plan, results), run_key(plan)
    record = plan.comparison.store.root / "pages" / f"result-{key}.json"
    if path.is_file():
        existing, written = read_result(path), read_sealed(record) or {}
        if existing.run_key == key and existing.stages and written.get("sha256") == file_digest(path):
            return existing
    result = assemble(plan)
    write_result(path, result)
    write_sealed(record, {"sha256": file_digest(path)}, copy=False)
    return result


def publish_failure(plan: RunPlan, results: Path, reason: str) -> None:
    """Write why a run failed. An earlier result of the same settings is kept, with the reason if it is unfinished.

    Args:
        plan: of the run.
        results: folder of the results.
        reason: one sentence.
    """
    path, reason = path_of(plan, results), redacted(reason)
    if path.is_file():
        existing = read_result(path)
        if existing.status == "ok" and existing.comparison_key == plan.comparison.key:
            if existing.pending:
                write_result(path, existing.model_copy(update={"error": reason}))
            return
    write_result(path, failed_result(plan, reason))


def set_aside(plans: Sequence[RunPlan], results: Path) -> Path | None:
    """Make room where all results of a comparison are of an earlier version of the code and cannot share a table with
    new ones: their folder gets another name.

    Returns:
        the folder where they are now; None if nothing had to go.
    """
    folder = path_of(plans[0], results).parent.parent
    others = [r for r in map(read_result, sorted(folder.glob("*/seed-*.json"))) if _is_foreign(r, plans[0])]
    if not others or not all(raised_since(r.versions) for r in others):
        return None
    aside = folder.with_name(f"{folder.name}-{others[0].comparison_key[:8]}")
    if aside.exists():
        return None
    folder.rename(aside)
    return aside


def _is_foreign(result: RunResult, plan: RunPlan) -> bool:
    """Whether a result was made under other settings than a run's."""
    return result.comparison_key != plan.comparison.key


def check_folder(plans: Sequence[RunPlan], results: Path) -> None:
    """Refuse a results folder that holds runs made under other settings.

    Raises:
        UserError: names the file and the ways out.
    """
    for path in sorted(path_of(plans[0], results).parent.parent.glob("*/seed-*.json")):
        if _is_foreign(read_result(path), plans[0]):
            raise UserError(
                f"{path} was made under other settings (start, pairs, budget, training or search) and cannot share a "
                "table with this comparison: rename the recipe, remove that folder, or set --results"
            )


def path_of(plan: RunPlan, results: Path) -> Path:
    """Result file of a run."""
    comparison = plan.comparison
    return result_path(results, comparison.recipe.name, comparison.budget.name, plan.name, plan.seed)
