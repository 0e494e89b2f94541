"""The tuning certificate of a row: what its search tried, and whether the best value lies at the edge of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.score.results import RunResult

Place = Literal["inside", "lowest", "highest", "only", "of a set"]


@dataclass(frozen=True)
class SearchedSetting:
    """One setting of a search.

    Attributes:
        name: ``learning_rate`` or an option of the method.
        values: those tried, once each; numbers in increasing order.
        kept: the one that the search kept.
        place: where the kept value lies: ``inside`` the numbers tried, at their ``lowest`` or ``highest``, the ``only``
            value, or one ``of a set`` of values without an order.
    """

    name: str
    values: tuple[Any, ...]
    kept: Any
    place: Place


@dataclass(frozen=True)
class TuningCertificate:
    """What the search of a row tried.

    Attributes:
        trials: how many.
        failed: of them, those that diverged; not_eligible: those that left the language of the start policy.
        settings: that it varied, and the learning rate.
        reasons: why the row is not tuned; empty if it is.
    """

    trials: int
    failed: int
    not_eligible: int
    settings: tuple[SearchedSetting, ...]
    reasons: tuple[str, ...]

    @property
    def tuned(self) -> bool:
        """Whether every setting has a best value with tried values on both sides, and a trial was eligible."""
        return not self.reasons

    @property
    def text(self) -> str:
        """``tuned``, or ``not tuned`` with the reasons."""
        return f"not tuned: {'; '.join(self.reasons)}" if self.reasons else f"tuned, {self.trials} trials"


def tuning_certificate(run: RunResult) -> TuningCertificate | None:
    """The certificate of a run, from the trials that its result file holds; None if its method has no search.

    A best value at the edge of what was tried says that the best may lie beyond it. Of a set of values without an
    order (names, truth values) there is no edge. A setting with one value was not searched; the learning rate always
    counts, since every method has one.
    """
    if run.learning_rate is None:
        return None
    varied = list(dict.fromkeys(name for trial in run.trials for name in trial.options))
    settings = [_setting("learning_rate", [t.learning_rate for t in run.trials], run.learning_rate)]
    for name in varied:
        tried = [trial.options[name] for trial in run.trials if name in trial.options]
        settings.append(_setting(name, tried, run.method_options.get(name)))
    reasons = [reason for setting in settings if (reason := _reason(setting))]
    if run.trials and not any(trial.eligible for trial in run.trials):
        reasons.append("no trial was eligible")
    failed = sum(bool(trial.error) for trial in run.trials)
    outside = sum(not trial.eligible and not trial.error for trial in run.trials)
    return TuningCertificate(len(run.trials), failed, outside, tuple(settings), tuple(reasons))


def _setting(name: str, tried: list[Any], kept: Any) -> SearchedSetting:
    values: list[Any] = []
    for value in tried:
        if value not in values:
            values.append(value)
    if len(values) < 2:
        return SearchedSetting(name, tuple(values), kept, "only")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in [*values, kept]):
        return SearchedSetting(name, tuple(values), kept, "of a set")
    values.sort()
    place: Place = "lowest" if kept <= values[0] else "highest" if kept >= values[-1] else "inside"
    return SearchedSetting(name, tuple(values), kept, place)


def _reason(setting: SearchedSetting) -> str:
    """Why a setting keeps its row from being tuned; "" if it does not."""
    name = setting.name.replace("_", " ")
    if setting.place == "only":
        return f"one value of {name}"
    if setting.place in ("lowest", "highest"):
        return f"{name} {setting.kept:g} is the {setting.place} of {len(setting.values)} tried"
    return ""
