"""Which part of which run can begin now: the order of a comparison, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from harness.methods.endpoint import Remote
from harness.run.job import ALL, FIRST, SHARED, TRIAL
from harness.run.nodes import TrialNodes
from harness.run.plan import RunPlan, resolved


@dataclass(frozen=True)
class Part:
    """A part of a run, as one process works through it.

    Attributes:
        place: of the run in the comparison.
        plan: of the run.
        name: what of it (:meth:`harness.run.run.Run.work`).
        key: names the work: two runs can share a part (the seeds of a method share its search).
        against: whether it only compares answers with those of the reference method.
    """

    place: int
    plan: RunPlan
    name: str
    key: str
    against: bool = False

    @property
    def whole(self) -> bool:
        """Whether the run is over with it."""
        return self.name == ALL

    @property
    def todo(self) -> list[str]:
        """Labels of what is to be done in it; empty if all was done before."""
        if self.name == FIRST:
            return self.plan.first_todo
        if self.name == SHARED:
            return ["start policy and preference pairs"]
        if self.name.startswith(TRIAL):
            return [self.plan.trials[int(self.name.removeprefix(TRIAL))].tune.label]
        return self.plan.todo


class Schedule:
    """What of a comparison is still to begin, under way and over.

    Every run first comes as far as its first benchmark, so that there is something to look at early; then all runs are
    measured on the others. With several workers the start policy and the pairs come before that, then the trials of all
    searches, each as soon as there is room. The first run that has weights is measured before the others: they use the
    start policy's answers, which it leaves behind. With several workers that is done while the last runs train. The
    verdicts of a pairwise oracle against the reference method come when all runs are over.

    A short comparison needs no early look, and a part that is worked on for half a second costs a fifth of that to
    begin. There one process works on a run from its search to its last benchmark, as soon as the run ahead is over.

    Args:
        plans: of the runs, in order.
        split: whether parts of the comparison may be worked on side by side.
        short: whether its runs are not taken apart further than that.
    """

    def __init__(self, plans: Sequence[RunPlan], *, split: bool, short: bool = False) -> None:
        self.plans, self._split, self.short = list(plans), split, short
        self._begun: set[str] = set()
        self._over: set[str] = set()
        self._ahead = next((i for i, plan in enumerate(plans) if not isinstance(plan.method, Remote)), 0)
        self.failed: dict[int, str] = {}
        self._plan = self._resolving()

    def _resolving(self) -> Callable[[int], RunPlan]:
        """The plan of a run with what the store holds; each is looked up once."""
        return cache(lambda place: resolved(self.plans[place]))

    @property
    def open_runs(self) -> list[int]:
        """Places of runs that are neither over nor failed."""
        return [i for i in range(len(self.plans)) if f"run {i}" not in self._over and i not in self.failed]

    def next(self) -> Part | None:
        """The next part that can begin; None if all are under way, over, or wait for others."""
        if self._begun - self._over and not self._split:
            return None
        self._plan = self._resolving()
        part = self._any(self._first)
        if self._early(part):
            part = self._rest(self._ahead) or part
        part = part or self._any(self._rest)
        if part is None:
            return self._verdicts()
        self._begun.add(part.key)
        return part

    def _any(self, find: Callable[[int], Part | None]) -> Part | None:
        """The first part that can begin, of the open runs."""
        return next((part for place in self.open_runs if (part := find(place)) is not None), None)

    def _early(self, part: Part | None) -> bool:
        """Whether the run ahead may be measured now: in place of the last trainings, so that no worker waits for it
        when these are over. There is a trained run to look at by then."""
        if not self._split or self._ahead not in self.open_runs or (part is not None and part.name.startswith(TRIAL)):
            return False
        return any(f"first {place}" in self._over for place in range(len(self.plans)) if place != self._ahead)

    def _first(self, place: int) -> Part | None:
        """The next part of a run on the way to its first benchmark, if one can begin; all of it if nothing follows."""
        whole, first = f"run {place}", f"first {place}"
        if whole in self._begun or first in self._begun:
            return None
        plan = self._plan(place)
        if not plan.todo:
            return Part(place, plan, ALL, whole)
        if not plan.first_todo:
            return None
        if self._split:
            facts, store = plan.comparison.facts, plan.comparison.store
            if not (store.done(facts.start.stage) and store.done(facts.pairs.stage)) and SHARED not in self._over:
                return None if SHARED in self._begun else Part(place, plan, SHARED, SHARED)
            open_trials = [(n, t) for n, t in enumerate(plan.trials) if not store.done(t.tune.stage)]
            if self.short and (place == self._ahead or self._ahead not in self.open_runs):
                return None if self._under_way([t for _, t in open_trials]) else Part(place, plan, ALL, whole)
            for number, trial in open_trials:
                if trial.tune.key not in self._begun and not self._under_way([trial]):
                    return Part(place, plan, f"{TRIAL}{number}", trial.tune.key)
            if any(trial.tune.key not in self._over for _, trial in open_trials):
                return None
        if place != self._ahead and self._ahead_is_first():
            return None
        if plan.todo == plan.first_todo:
            return Part(place, plan, ALL, whole)
        return Part(place, plan, FIRST, first)

    def _under_way(self, trials: Sequence[TrialNodes]) -> bool:
        """Whether one of these trials is being worked on, alone or within a run that has it in common."""
        parts = self._begun - self._over
        runs = [plan for place, plan in enumerate(self.plans) if f"run {place}" in parts]
        keys = parts.union(*({trial.tune.key for trial in plan.trials} for plan in runs))
        return any(trial.tune.key in keys for trial in trials)

    def _ahead_is_first(self) -> bool:
        """Whether the run that others wait for has no first score yet, and can still get one."""
        ahead = self._ahead
        return ahead in self.open_runs and f"first {ahead}" not in self._over and bool(self._plan(ahead).first_todo)

    def _rest(self, place: int) -> Part | None:
        """All that is left of a run, if it can begin."""
        whole, plan = f"run {place}", self._plan(place)
        if whole in self._begun or (plan.first_todo and f"first {place}" not in self._over):
            return None
        if place != self._ahead and self._ahead in self.open_runs:
            return None
        return Part(place, plan, ALL, whole)

    def _verdicts(self) -> Part | None:
        """A comparison with the reference method's answers, once no run is open."""
        if self.open_runs:
            return None
        for place, plan in enumerate(self.plans):
            key = f"against {place}"
            if plan.rival and place not in self.failed and key not in self._begun:
                self._begun.add(key)
                current = resolved(plan)
                if current.open_versus:
                    return Part(place, current, ALL, key, against=True)
        return None

    def over(self, part: Part, reason: str | None) -> list[int]:
        """Note that a part is over.

        Args:
            part: that was begun.
            reason: why it failed, or None.

        Returns:
            places of the runs that have new results: over with it, measured for the first time, or failed by it.
        """
        self._over.add(part.key)
        if part.name == SHARED and reason is not None:  # the next run tries it, with all cores again: see LocalPool
            self._begun.discard(SHARED)
            self._over.discard(SHARED)
        places = [part.place]
        if not part.whole:
            if reason is None:
                return places if part.name == FIRST else []
            needing = [i for i in self.open_runs if part.key in [t.tune.key for t in self.plans[i].trials]]
            places = needing or [i for i in places if i not in self.failed]  # the first reason stands
        if reason is not None:
            self.failed |= dict.fromkeys(places, reason)
        return places
