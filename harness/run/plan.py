"""The plan of a run as data: which nodes it has, and what the store holds of them already.

:func:`make_runs` resolves a comparison into plans. What depends on the search (the policy, its answers and verdicts)
becomes known late: :func:`resolved` reads the store and adds it. Everybody else reads plans and calls nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.benchmark import Benchmark
from harness.methods.base import Method
from harness.methods.endpoint import Remote
from harness.recipe.recipe import Recipe
from harness.recipe.search import Point, points
from harness.run.comparison import Comparison, Facts, resolve
from harness.run.configure import make_method, own_options
from harness.run.nodes import EvaluationNodes, Node, State, TrialNodes, Winner, set_aside_short, states_of
from harness.run.stages import (
    Training,
    answers_stage,
    judgments_stage,
    train_stage,
    training_labels,
    tune_stage,
    versus_stage,
)
from harness.score.results import Trial
from harness.store.json_files import read_json
from harness.store.stages import Store


@dataclass(frozen=True)
class RunPlan:
    """One run: recipe x method x seed.

    Attributes:
        name: the row's name: the method's, or that of a variant or endpoint of the recipe.
        benchmarks: those that can measure the method (texts alone come from an endpoint).
        fractions: shares of the budget at which a policy is kept on the way, for benchmarks that score the way.
        trials: the recorded search; empty for a method that does not train.
        rival: the reference method's run with this seed, where a pairwise oracle evaluates.
        scores: of finished trials, in order.
        winner: what the search keeps.
        policy: what is evaluated; None while the search is open.
        evaluations: by benchmark; empty while the policy is not known.
        states: what the store held of each node when this plan was resolved, by key.
    """

    comparison: Comparison
    name: str
    method: Method
    seed: int
    benchmarks: tuple[Benchmark, ...]
    fractions: tuple[float, ...]
    trials: tuple[TrialNodes, ...]
    rival: RunPlan | None = None
    scores: tuple[Trial, ...] = ()
    winner: Winner = field(default_factory=Winner)
    policy: Node | None = None
    evaluations: Mapping[str, EvaluationNodes] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)

    @property
    def nodes(self) -> list[Node]:
        """All nodes that are known, each after those that it needs."""
        facts = self.comparison.facts
        nodes = [facts.start, facts.pairs, *(node for t in self.trials for node in (t.train, t.tune))]
        nodes += [self.policy] if self.policy else []
        return nodes + [node for e in self.evaluations.values() for node in e.nodes]

    @property
    def evaluated(self) -> list[tuple[Benchmark, EvaluationNodes]]:
        """The benchmarks asked for whose nodes are known."""
        wanted = self.comparison.wanted
        return [(b, self.evaluations[b.name]) for b in self.benchmarks if b.name in wanted and self.evaluations]

    @property
    def unanswered(self) -> dict[str, int]:
        """Judge calls without an answer, by benchmark, which the same command makes again."""
        counts = {b.name: self.states[e.judgments.key].unanswered for b, e in self.evaluated}
        return {name: count for name, count in counts.items() if count}

    @property
    def open_versus(self) -> list[str]:
        """Benchmarks whose answers are still to be compared with the reference method's."""
        return [b.name for b, e in self.evaluated if e.versus and not self.states[e.versus.key].done]

    @property
    def lost_trainings(self) -> list[TrialNodes]:
        """Trials that are scored and whose policy is no longer there: it was damaged."""
        diverged = [(s.learning_rate, s.options) for s in self.scores if s.error]
        scored = [t for t in self.trials if self.states[t.tune.key].done and not self.states[t.train.key].done]
        return [t for t in scored if (t.point.learning_rate, dict(t.point.options)) not in diverged]

    @property
    def lost_answers(self) -> list[str]:
        """Benchmarks that are judged and whose answers are no longer there: they were damaged."""
        states = self.states
        return [b.name for b, e in self.evaluated if states[e.judgments.key].done and not states[e.answers.key].done]

    @property
    def todo(self) -> list[str]:
        """Labels of what is still to do, in order; empty if the run is finished."""
        facts, wanted = self.comparison.facts, self.comparison.wanted
        labels = [node.label for node in (facts.start, facts.pairs) if not self.states[node.key].done]
        labels += [t.tune.label for t in self.trials if not self.states[t.tune.key].done]
        if self.method.trains and self.seed > 0 and not (self.policy and self.states[self.policy.key].done):
            labels.append("train")
        labels += [f"train again, {trial.tune.label}" for trial in self.lost_trainings]
        if not self.evaluations:
            labels += [b.name for b in self.benchmarks if b.name in wanted]
        lost = self.lost_answers
        labels += [b.name for b, e in self.evaluated if not self.states[e.judgments.key].settled or b.name in lost]
        return labels + [f"{name} against {self.comparison.recipe.reference}" for name in self.open_versus]

    @property
    def up_to_first(self) -> RunPlan:
        """The same run with the first of the benchmarks asked for alone."""
        wanted = [b for b in self.benchmarks if b.name in self.comparison.wanted]
        return replace(self, benchmarks=tuple(wanted[:1]))

    @property
    def first_todo(self) -> list[str]:
        """Labels of what is still to do until the first benchmark is measured."""
        plan = self.up_to_first
        versus = [f"{name} against {self.comparison.recipe.reference}" for name in plan.open_versus]
        return [label for label in plan.todo if label not in versus]

    def dump(self) -> dict[str, Any]:
        """JSON form of what a process needs to work through this run without planning it again."""
        return {
            "facts": self.comparison.facts.dump(),
            "trials": [trial.dump() for trial in self.trials],
            "rival": [trial.dump() for trial in self.rival.trials] if self.rival else None,
        }


def make_runs(
    recipe: Recipe, budget_name: str, methods: Sequence[str], seeds: int, benchmarks: Sequence[str], store: Store
) -> list[RunPlan]:
    """All runs of a comparison, seed by seed, controls first.

    Args:
        recipe: what is compared.
        budget_name: one of the recipe's budgets or of the named ones.
        methods: rows: methods, variants, endpoints.
        seeds: how many; a method that does not train has one run.
        benchmarks: those to run.
        store: where finished stages are.

    Raises:
        UserError: an unknown budget, method, benchmark or oracle, or settings that do not fit each other.
    """
    comparison = resolve(recipe, budget_name, methods, benchmarks, store)
    names = sorted(dict.fromkeys(methods), key=lambda name: comparison.methods[name].trains)
    return [
        plan_run(comparison, name, seed)
        for seed in range(seeds)
        for name in names
        if comparison.methods[name].trains or seed == 0
    ]


def make_run(
    recipe: Recipe, budget_name: str, method: str, seed: int, benchmarks: Sequence[str], store: Store
) -> RunPlan:
    """One run.

    Args:
        recipe: what is compared.
        budget_name: one of the recipe's budgets or of the named ones.
        method: the row: a method, variant or endpoint.
        seed: of the run.
        benchmarks: those to run.
        store: where finished stages are.

    Raises:
        UserError: as :func:`make_runs`.
    """
    return plan_run(resolve(recipe, budget_name, [method], benchmarks, store), method, seed)


def load_run(comparison: Comparison, name: str, seed: int, value: Mapping[str, Any]) -> RunPlan:
    """The plan that :meth:`RunPlan.dump` wrote.

    Args:
        comparison: resolved with the facts of the same plan.
        name: of the row.
        seed: of the run.
        value: the JSON form.
    """
    rival = None
    if value["rival"] is not None and comparison.reference:
        rival = _with_trials(comparison, comparison.reference, seed, value["rival"])
    return resolved(replace(_with_trials(comparison, name, seed, value["trials"]), rival=rival))


def _with_trials(comparison: Comparison, name: str, seed: int, trials: Sequence[Mapping[str, Any]]) -> RunPlan:
    return replace(_bare(comparison, name, seed), trials=tuple(TrialNodes.load(t) for t in trials))


def load_facts(value: Mapping[str, Any]) -> Facts:
    """The facts of the comparison in what :meth:`RunPlan.dump` wrote."""
    return Facts.load(value["facts"])


def plan_run(comparison: Comparison, name: str, seed: int) -> RunPlan:
    """The plan of one run, with what the store holds of it.

    Args:
        comparison: resolved.
        name: of the row.
        seed: of the run.
    """
    plan = _searched(_bare(comparison, name, seed))
    if comparison.reference and name != comparison.reference and plan.method.trains:
        plan = replace(plan, rival=_searched(_bare(comparison, comparison.reference, seed)))
    return resolved(plan)


def _bare(comparison: Comparison, name: str, seed: int) -> RunPlan:
    """A run without nodes of its own."""
    method = comparison.methods[name]
    benchmarks = comparison.benchmarks
    if isinstance(method, Remote):
        benchmarks = tuple(b for b in benchmarks if "weights" not in b.needs)
    fractions = sorted({f for b in benchmarks for f in b.fractions() if f < 1}) if method.trains else []
    return RunPlan(comparison, name, method, seed, benchmarks, tuple(fractions), ())


def _searched(plan: RunPlan) -> RunPlan:
    """With the nodes of its search."""
    if not plan.method.trains:
        return plan
    recipe = plan.comparison.recipe
    searched = points(recipe.tune, plan.name, plan.method.grid, own_options(recipe, plan.name))
    trials = []
    for point in searched:
        train = train_node(plan, point, 0)
        tune = Node(
            f"trial {point}",
            tune_stage(recipe, train.stage),
            (plan.comparison.facts.start.key, plan.comparison.facts.pairs.key, train.key),
            point.record(),
        )
        trials.append(TrialNodes(point, train, tune))
    return replace(plan, trials=tuple(trials))


def configured(plan: RunPlan, point: Point) -> Method:
    """The run's method with the options of a trial."""
    return make_method(plan.comparison.recipe, plan.name, point.options) if point.options else plan.method


def train_node(plan: RunPlan, point: Point, seed: int) -> Node:
    """Training of the run's method.

    Args:
        plan: of the run.
        point: learning rate and options.
        seed: of the training.
    """
    recipe, facts = plan.comparison.recipe, plan.comparison.facts
    shared = Training(
        recipe,
        plan.comparison.budget,
        facts.start.stage,
        facts.pairs.stage,
        plan.fractions,
        training_labels(recipe, facts.oracle),
    )
    stage = train_stage(shared, configured(plan, point), point, seed)
    return Node("train", stage, (facts.start.key, facts.pairs.key), point.record() | {"seed": seed})


def resolved(plan: RunPlan) -> RunPlan:
    """The plan with what the store holds now, and with the nodes that have become known.

    Reads the scores of trials; the winner has the highest gold reward among eligible trials (among all if none is).
    """
    store, facts = plan.comparison.store, plan.comparison.facts
    rival = resolved(plan.rival) if plan.rival else None
    scores = tuple(_trial_scores(plan))
    winner = Winner(tuple(t.tune.key for t in plan.trials), _best(plan, scores))
    policy: Node | None = facts.start
    if plan.method.trains:
        policy = train_node(plan, winner.point, plan.seed) if winner.point else None
    evaluations = {}
    if policy is not None:
        evaluations = {b.name: _evaluation(plan, b.name, policy) for b in plan.benchmarks}
    if rival is not None:
        compared = [b for b in plan.benchmarks if b.name in evaluations and "reference" in b.needs]
        evaluations |= {b.name: _against(plan, rival, b, evaluations[b.name]) for b in compared}
    for nodes in evaluations.values():
        set_aside_short(nodes, store)
    plan = replace(plan, rival=rival, scores=scores, winner=winner, policy=policy, evaluations=evaluations)
    return replace(plan, states=states_of(plan.nodes, store))


def _trial_scores(plan: RunPlan) -> list[Trial]:
    store, limit = plan.comparison.store, plan.comparison.recipe.tune.max_perplexity_ratio
    trials = []
    for trial in plan.trials:
        if store.done(trial.tune.stage):
            scores = read_json(store.path(trial.tune.stage) / "scores.json")
            ratio = scores.get("perplexity_ratio")
            eligible = ratio is not None and ratio <= limit
            trials.append(Trial(**trial.point.record(), seed=0, eligible=eligible, **scores))
    return trials


def _best(plan: RunPlan, scores: Sequence[Trial]) -> Point | None:
    """None while some trials are open, or if all diverged."""
    if len(scores) < len(plan.trials):
        return None
    ranked = [
        (t.eligible, t.gold_reward or 0.0, -t.learning_rate, -place)
        for place, t in enumerate(scores)
        if not t.error  # one trial alone may have no reward
    ]
    return plan.trials[-max(ranked)[3]].point if ranked else None


def _evaluation(plan: RunPlan, name: str, policy: Node) -> EvaluationNodes:
    facts, recipe = plan.comparison.facts, plan.comparison.recipe
    stage = answers_stage(recipe, plan.method, policy.stage, facts.protocols[name])
    answers = Node(name, stage, (facts.start.key, facts.pairs.key, policy.key), {"benchmark": name})
    judgments = judgments_stage(answers.stage, facts.judges[name])
    return EvaluationNodes(answers, Node(name, judgments, (facts.start.key, answers.key), {"benchmark": name}))


def _against(plan: RunPlan, rival: RunPlan, benchmark: Benchmark, nodes: EvaluationNodes) -> EvaluationNodes:
    """With the verdicts against the reference method's answers, once both sides have answered."""
    store, facts = plan.comparison.store, plan.comparison.facts
    theirs = rival.evaluations[benchmark.name].answers if rival.evaluations else None
    if theirs is None or not (store.done(nodes.answers.stage) and store.done(theirs.stage)):
        return nodes
    stage = versus_stage(nodes.answers.stage, theirs.stage, facts.eval_oracle)
    label = f"{benchmark.name} against {plan.comparison.recipe.reference}"
    needs = (facts.pairs.key, nodes.answers.key, theirs.key)
    return replace(nodes, versus=Node(label, stage, needs, {"benchmark": benchmark.name}))
