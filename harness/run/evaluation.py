"""Building the stages of evaluation: answers, judgments, and verdicts against the reference method's answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.answer.chat import Prompt
from harness.benchmark import Benchmark, EvalContext, Row, rows_fault
from harness.errors import UserError
from harness.methods.endpoint import Remote
from harness.oracles.none import NONE
from harness.run.nodes import EvaluationNodes, Node
from harness.run.plan import RunPlan
from harness.run.resources import Resources
from harness.run.stages import thinking_of
from harness.store.json_files import read_rows, write_rows
from harness.store.row_files import RowFile

Evaluated = Sequence[tuple[Benchmark, EvaluationNodes]]


def evaluate_policy(resources: Resources, plan: RunPlan, pairs: Path, prompts: Sequence[Prompt]) -> None:
    """Answer and judge every benchmark that is still open.

    Args:
        resources: models and meters of the run.
        plan: of the run, its policy known.
        pairs: folder of the preference pairs.
        prompts: the evaluation prompts.
    """
    store = resources.store
    todo = [
        (b, nodes)
        for b, nodes in plan.evaluated
        if not (store.settled(nodes.judgments.stage) and store.done(nodes.answers.stage))
    ]
    if not todo or plan.policy is None:
        return
    policy = _policy(resources, plan, plan.policy)
    context = _context(resources, plan, policy, pairs, prompts)
    _answer_together(resources, todo, context)
    for benchmark, nodes in todo:
        _answer_and_judge(resources, benchmark, nodes, context)


def _policy(resources: Resources, plan: RunPlan, node: Node) -> Any:
    """The policy under test, as evaluation asks it."""
    method = plan.method
    if isinstance(method, Remote):
        from harness.answer.endpoint_policy import EndpointPolicy

        policy: Any = EndpointPolicy(
            method.config,
            resources.tokenizer,
            meter=resources.meter,
            cache=resources.cache,
            thinking=thinking_of(resources.recipe, method),
        )
    elif method.trains:
        folder = resources.store.path(node.stage) / "policy"
        policy = resources.served(resources.trained(folder, node.key), folder)
    else:
        policy = resources.start_served
    return policy.with_instruction(method.instruction) if method.instruction else policy


def _context(resources: Resources, plan: RunPlan, policy: Any, pairs: Path, prompts: Sequence[Prompt]) -> EvalContext:
    from harness.judge.local import LocalJudge

    training, evaluation = resources.oracles
    batch_size = resources.recipe.scoring_batch_size
    return EvalContext(
        policy=policy,
        start=resources.start_served.asked_by(policy.identity),
        judge=LocalJudge(resources.start.asked_by(policy.identity), batch_size),
        oracle=resources.evaluating(evaluation),
        training_oracle=None if training is evaluation or training.name == NONE else resources.evaluating(training),
        prompts=prompts,
        ask=resources.ask,
        kept=lambda fraction: _kept(resources, plan, fraction, policy),
        heldout_pairs=RowFile(pairs / "heldout.jsonl"),
        scoring_batch_size=batch_size,
        progress=resources.tick,
        expect=resources.expect,
    )


def _kept(resources: Resources, plan: RunPlan, fraction: float, final: Any) -> Any:
    """The policy at a share of the budget: the final one at 1 (and for a method that does not train)."""
    if fraction >= 1 or not plan.method.trains or plan.policy is None:
        return final
    folder = resources.store.path(plan.policy.stage) / "fractions" / f"{fraction:g}"
    if not folder.is_dir():
        return None
    return resources.served(resources.trained(folder, f"{plan.policy.key}@{fraction:g}"), folder)


def _answer_together(resources: Resources, todo: Evaluated, context: EvalContext) -> None:
    """Sample the first answers of all benchmarks in shared batches; the answer stages then find them cached."""
    store = resources.store
    while unanswered := [(b, nodes.answers) for b, nodes in todo if not store.done(nodes.answers.stage)]:
        requests = [q for b, _ in unanswered for q in b.requests(context)]
        if not requests:
            return
        first = unanswered[0][1].stage
        with store.building(first):  # which pays for all: nobody else writes its ledger
            if store.done(first):
                continue  # another command was faster
            resources.open_ledger(store.work(first))
            resources.emit("stage", ("answers", len(requests)))
            with resources.meter.phase("eval"):
                context.policy.sample(requests, resources.tick, shared=True)
            resources.keep_ledger()
            resources.open_ledger(None)
            return


def _answer_and_judge(resources: Resources, benchmark: Benchmark, nodes: EvaluationNodes, context: EvalContext) -> None:
    store, judgments = resources.store, nodes.judgments.stage

    def answer(work: Path) -> dict[str, Any]:
        resources.show(f"{benchmark.name}: answering")
        resources.open_ledger(work)
        write_rows(work / "rows.jsonl", _checked(benchmark, "answer", benchmark.answer(context)))
        return resources.spent() | {"thinking": context.policy.thinking}

    answers = store.get(nodes.answers.stage, answer)

    def judge(work: Path) -> dict[str, Any]:
        resources.show(f"{benchmark.name}: {'scoring' if benchmark.judged_by == 'none' else 'judging'}")
        resources.open_ledger(work, judgments)
        resources.unanswered, resources.replaced, resources.fault = 0, 0, ""
        answered = read_rows(answers / "rows.jsonl")
        judged = benchmark.judge(answered, context)
        write_rows(work / "rows.jsonl", _checked(benchmark, "judge", judged, answered))
        names = ("unanswered", "fault", "replaced")
        return resources.spent() | {name: value for name in names if (value := getattr(resources, name))}

    store.get(judgments, judge)


def _checked(benchmark: Benchmark, function: str, rows: Any, before: list[Row] | None = None) -> list[Row]:
    """The rows that a benchmark returned, if they can be stored.

    Args:
        benchmark: that returned them.
        function: ``answer`` or ``judge``.
        rows: of any type.
        before: those that were to be judged.

    Raises:
        UserError: they cannot.
    """
    if fault := rows_fault(rows, before):
        raise UserError(f"The benchmark {benchmark.name} cannot be scored: after {function}(), {fault}")
    checked: list[Row] = rows
    return checked


def compare_with_reference(resources: Resources, plan: RunPlan, prompts: Sequence[Prompt]) -> None:
    """Ask a pairwise oracle about the policy's answers and the reference method's, in both orders.

    Args:
        resources: models and meters of the run.
        plan: of the run; a benchmark whose answers are not there on both sides is left for later.
        prompts: the evaluation prompts.
    """
    for benchmark, nodes in plan.evaluated:
        if nodes.versus is not None and plan.rival is not None:
            theirs = plan.rival.evaluations[benchmark.name].answers
            _compare(resources, plan.rival.name, benchmark, (nodes.answers, theirs, nodes.versus), prompts)


def _compare(
    resources: Resources,
    rival: str,
    benchmark: Benchmark,
    nodes: tuple[Node, Node, Node],
    prompts: Sequence[Prompt],
) -> None:
    """``nodes``: our answers, the rival's, and the verdicts to make of them."""
    store, (ours, theirs, versus) = resources.store, nodes

    def build(work: Path) -> dict[str, Any]:
        resources.show(f"{benchmark.name}: against {rival}")
        resources.open_ledger(work)
        sides = [
            {r["id"]: r["text"] for r in read_rows(store.path(side.stage) / "rows.jsonl") if "text" in r}
            for side in (ours, theirs)
        ]
        paired = [p for p in prompts if all(p["id"] in side for side in sides)]
        texts = [[side[p["id"]] for p in paired] for side in sides]
        won, _ = resources.evaluating(resources.oracles.evaluation).versus(paired, *texts)
        rows = [{"id": p["id"], "won": None if math.isnan(w) else w} for p, w in zip(paired, won, strict=True)]
        write_rows(work / "rows.jsonl", rows)
        return resources.spent()

    store.get(versus.stage, build)
