"""One run: prepare, search, train, answer and judge. Each finished stage stays finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.answer.chat import Prompt
from harness.answer.load import allow_tf32
from harness.methods.endpoint import Remote
from harness.recipe.search import Point
from harness.run.evaluation import compare_with_reference, evaluate_policy
from harness.run.housekeeping import discard_checkpoints
from harness.run.job import ALL, FIRST, SHARED, TRIAL
from harness.run.nodes import Node, TrialNodes
from harness.run.pairs import build_pairs, prompts_by_part
from harness.run.plan import RunPlan, resolved
from harness.run.readiness import check_before_work
from harness.run.resources import Emit, Resources
from harness.run.training import answer_tuning_prompts, train_policy, trial_scores
from harness.store.json_files import write_json


class Run:
    """Works through the open nodes of a :class:`~harness.run.plan.RunPlan`.

    Args:
        plan: of the run.
        emit: gets events of progress: ``stage`` (text, total), ``share`` (text, of what), ``advance`` (so much more),
            ``at`` (so much); ``say`` (a line); ``logged`` (a row of a training log, where trackers want it);
            ``checked`` (nothing).
    """

    def __init__(self, plan: RunPlan, emit: Emit) -> None:
        comparison = plan.comparison
        allow_tf32(comparison.recipe.tf32)
        self.plan, self.store = plan, comparison.store
        self.resources = Resources(comparison.recipe, comparison.store, comparison.facts.start, emit)

    def work(self, part: str = ALL, *, checked: bool = False) -> None:
        """Do everything that is open, in order.

        Args:
            part: ``all``; ``first`` ends after the first benchmark, ``shared`` after the preference pairs; ``trial-K``
                does what is shared and trial K.
            checked: whether another process has checked, for all rows of the comparison, that they can work.

        Raises:
            FloatingPointError: every trial diverged.
            UserError: something that the user can change stands in the way.
        """
        plan, store, facts = self.plan, self.store, self.plan.comparison.facts
        if not store.done(facts.start.stage):
            _ = self.resources.start_dir
        if not checked and not all(store.done(n.stage) for n in (facts.pairs, *(t.tune for t in plan.trials))):
            check_before_work(self.resources, plan)
            if not isinstance(plan.method, Remote):  # an endpoint is measured on fewer benchmarks than the others
                self.resources.emit("checked", None)
        self.pairs()
        trained = any(method.trains for method in plan.comparison.methods.values())
        if trained and (part == SHARED or not all(store.done(t.tune.stage) for t in plan.trials)):
            answer_tuning_prompts(self.resources, self.prompts["tune"])
        if part == SHARED:
            return
        for number, trial in enumerate(plan.trials):
            if part in (ALL, FIRST, f"{TRIAL}{number}") and not store.done(trial.tune.stage):
                self.tune(trial)
        if part not in (ALL, FIRST):
            return
        plan = self.plan = resolved(plan)
        for trial in plan.lost_trainings:
            self.train(trial.train)
        if plan.method.trains:
            if plan.winner.point is None or plan.policy is None:
                errors = zip(plan.trials, plan.scores, strict=True)
                raise FloatingPointError("; ".join(f"{trial.point}: {scores.error}" for trial, scores in errors))
            self.train(plan.policy)
        evaluate_policy(self.resources, plan.up_to_first if part == FIRST else plan, self.pairs(), self.prompts["eval"])
        if part == FIRST:
            return
        plan = self.plan = resolved(plan)
        compare_with_reference(self.resources, plan, self.prompts["eval"])

    def pairs(self) -> Path:
        """The folder of the preference pairs."""
        stage = self.plan.comparison.facts.pairs.stage
        return self.store.get(stage, lambda work: build_pairs(self.resources, work))

    @cached_property
    def prompts(self) -> Mapping[str, Sequence[Prompt]]:
        """The recipe's prompts by part."""
        return prompts_by_part(self.resources.recipe, self.store, self.pairs())

    def train(self, node: Node, *, trial: bool = False) -> Path:
        """The folder of a trained policy.

        Args:
            node: of the training.
            trial: whether it is one of the search. If it diverges it is not tried again, so that its checkpoints go.
        """
        settings = dict(node.settings)
        seed = settings.pop("seed")

        def build(work: Path) -> dict[str, Any]:
            point, pairs, prompts = Point(**settings), self.pairs(), self.prompts
            try:
                return train_policy(self.resources, self.plan, point, seed, pairs, prompts, work)
            except FloatingPointError:
                if trial:
                    discard_checkpoints(work)
                raise

        folder = self.store.get(node.stage, build)
        discard_checkpoints(folder)
        return folder

    def tune(self, trial: TrialNodes) -> None:
        """Score one trial on the tuning prompts."""

        def build(work: Path) -> dict[str, Any]:
            try:
                folder = self.train(trial.train, trial=True)
            except FloatingPointError as error:
                write_json(work / "scores.json", {"error": str(error)})
                return self.resources.spent()
            resources, saved = self.resources, folder / "policy"
            policy = resources.served(resources.trained(saved, trial.train.key), saved)
            self.resources.open_ledger(work)
            write_json(work / "scores.json", trial_scores(self.resources, policy, self.prompts["tune"]))
            return self.resources.spent()

        self.store.get(trial.tune.stage, build)
