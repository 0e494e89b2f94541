"""Which part of which run can begin now: the order of a comparison, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.run.plan import RunPlan, resolved
from harness.run.run import ALL, SHARED, TRIAL


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


class Schedule:
    """What of a comparison is still to begin, under way and over.

    With one worker each run is one part, run after run. With more, what all runs share comes first, then the trials of
    all searches, each as soon as there is room. The first run is evaluated before the others: they use its answers.
    The verdicts of a pairwise oracle against the reference method come when both runs are over.

    Args:
        plans: of the runs, in order.
        split: whether parts of one run may be worked on apart.
    """

    def __init__(self, plans: Sequence[RunPlan], *, split: bool) -> None:
        self.plans, self._split = list(plans), split
        self._begun: set[str] = set()
        self._over: set[str] = set()
        self.failed: dict[int, str] = {}

    @property
    def open_runs(self) -> list[int]:
        """Places of runs that are neither over nor failed."""
        return [i for i in range(len(self.plans)) if f"run {i}" not in self._over and i not in self.failed]

    def next(self) -> Part | None:
        """The next part that can begin; None if all are under way, over, or wait for others."""
        for place in self.open_runs:
            part = self._part(place)
            if part is not None:
                self._begun.add(part.key)
                return part
        return self._verdicts()

    def _part(self, place: int) -> Part | None:
        plan = resolved(self.plans[place])
        if self._split and plan.todo:
            facts = plan.comparison.facts
            store = plan.comparison.store
            if not (store.done(facts.start.stage) and store.done(facts.pairs.stage)) and SHARED not in self._over:
                return None if SHARED in self._begun else Part(place, plan, SHARED, SHARED)
            open_trials = [(n, t) for n, t in enumerate(plan.trials) if not store.done(t.tune.stage)]
            for number, trial in open_trials:
                if trial.tune.key not in self._begun:
                    return Part(place, plan, f"{TRIAL}{number}", trial.tune.key)
            if any(trial.tune.key not in self._over for _, trial in open_trials):
                return None
            if place != 0 and 0 in self.open_runs:
                return None
        elif not self._split and any(f"run {i}" in self._begun for i in self.open_runs):
            return None
        return None if f"run {place}" in self._begun else Part(place, plan, ALL, f"run {place}")

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
            places of the runs that are over with it, or failed by it.
        """
        self._over.add(part.key)
        places = [part.place]
        if not part.whole:
            if reason is None:
                return []
            needing = [i for i in self.open_runs if part.key in [t.tune.key for t in self.plans[i].trials]]
            places = needing or [i for i in places if i not in self.failed]  # the first reason stands
        if reason is not None:
            self.failed |= dict.fromkeys(places, reason)
        return places
