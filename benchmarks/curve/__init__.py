"""``curve``: gold reward and KL on the way, at fixed shares of the budget, and the area under the reward's curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from benchmarks.shared.asking import task_requests
from benchmarks.shared.numbers import none_if_nan
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row, Scored
from harness.score.metrics import metric
from harness.score.results import Columns
from harness.score.validity import Invalid, value_or_reason

if TYPE_CHECKING:
    from harness.answer.policy import Policy
    from sail.types import Completion

NOT_KEPT = "the run ended before this share"
NO_REWARD = "no reward"

Share = Annotated[float, Field(gt=0, le=1)]


class _Sampled(NamedTuple):
    """A policy's answers: its identity, the prompts' token ids, the completions and their texts."""

    identity: str
    prompts: list[tuple[int, ...]]
    answers: list[Completion]
    texts: list[str]


class CurveOptions(BenchmarkOptions):
    """``fractions``: shares of the budget whose policies are scored. ``prompts``: the first so many evaluation prompts
    (0: all). ``max_new_tokens``: longest answer."""

    fractions: list[Share] = Field(default=[0.25, 0.5, 0.75, 1.0], min_length=1)
    prompts: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=48, gt=0)


class Curve(Benchmark):
    """How fast a method learns: two methods that end alike can differ in what half the budget buys.

    The policy kept at the first step boundary that reaches each fraction answers the prompts of ``preference`` with the
    same noise. The area is the mean reward over the budget, by trapezoids from the start policy at 0; it is computed
    for each prompt, so that it pairs.
    """

    name = "curve"
    title = "Learning curve"
    summary = "gold reward and KL at shares of the budget, and the area under the reward's curve"
    needs = frozenset({"weights", "task"})
    Options = CurveOptions
    options: CurveOptions

    def protocol(self) -> dict[str, Any]:
        """Adds the decoding."""
        return {**super().protocol(), "decoding": "T=1, one sample", "oracle": "gold reward"}

    def fractions(self) -> list[float]:
        """The policies it needs."""
        return sorted(self.options.fractions)

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One answer a prompt and fraction; those of the final policy are shared with ``preference``."""
        policies, length = len(self.options.fractions) if trained else 1, self.options.max_new_tokens
        answers = min(prompts, self.options.prompts or prompts) * policies
        return EvalCost(answers * length, 0, answers * length, 2 * answers)

    def answer(self, context: EvalContext) -> list[Row]:
        """One row a prompt: reward and KL of start and of each policy on the way; None where no policy was kept."""
        prompts = list(context.prompts)[: self.options.prompts or None]
        start = self._sampled(context, context.start, prompts)
        rows: list[Row] = [{"id": p["id"], "unit": context.oracle.unit, "reward": {}, "kl": {}} for p in prompts]
        for row, reward in zip(rows, self._rewards(context, prompts, start, start), strict=True):
            row["start_reward"] = reward
        sampled = {f: self._sampled(context, policy, prompts) for f in self.fractions() if (policy := context.kept(f))}
        start_logps = self._start_logps(context, list(sampled.values()))
        for fraction in self.fractions():
            rewards: list[float | None] = [None] * len(rows)
            kl: list[float | None] = [None] * len(rows)
            if fraction in sampled:
                rewards = self._rewards(context, prompts, sampled[fraction], start)
                logps = (answer.logp for answer in sampled[fraction].answers)
                kl = [logp - next(start_logps) for logp in logps]
            for row, reward, nats in zip(rows, rewards, kl, strict=True):
                row["reward"][f"{fraction:g}"], row["kl"][f"{fraction:g}"] = reward, nats
        return rows

    def _sampled(self, context: EvalContext, policy: Policy, prompts: list[Row]) -> _Sampled:
        """One sampled answer to each prompt, with the noise of the benchmark ``preference``."""
        requests = task_requests(policy, prompts, self.options.max_new_tokens)
        with policy.meter.phase("eval"):
            answers = policy.sample(requests, context.progress, shared=True)
        texts = [policy.text(answer) for answer in answers]
        return _Sampled(policy.identity, [request.prompt for request in requests], answers, texts)

    def _rewards(
        self, context: EvalContext, prompts: list[Row], sampled: _Sampled, start: _Sampled
    ) -> list[float | None]:
        """Gold reward of each answer; None where the oracle gives none, or the answer has no finite log-probability."""
        rewards, _ = context.oracle.versus(prompts, sampled.texts, start.texts)
        return [
            none_if_nan(reward) if math.isfinite(answer.logp) else None
            for reward, answer in zip(rewards, sampled.answers, strict=True)
        ]

    def _start_logps(self, context: EvalContext, policies: Sequence[_Sampled]) -> Iterator[float]:
        """Log-probabilities (nats) of all answers under the start policy, in order: those of a prompt share a pass."""
        rows = [
            (prompt, answer.ids)
            for sampled in policies
            if sampled.identity != context.start.identity
            for prompt, answer in zip(sampled.prompts, sampled.answers, strict=True)
        ]
        with context.start.meter.phase("eval"):
            logps = iter(context.start.summed_logps(rows, context.scoring_batch_size, context.progress))
        return iter(
            [
                answer.logp if sampled.identity == context.start.identity else next(logps)
                for sampled in policies
                for answer in sampled.answers
            ]
        )

    def score(self, rows: list[Row]) -> Scored:
        """A column a fraction, and the area."""
        unit = rows[0]["unit"] if rows else "reward"
        title = "gold reward" if unit == "share met" else "reward"
        names = [f"{f:g}" for f in self.fractions()]
        columns: Columns = {"id": [r["id"] for r in rows], "area": [_area(r, names) for r in rows]}
        metrics = [metric("area", f"area under {title}", unit, 1, "mean", "area", primary=True)]
        shown: tuple[tuple[str, str, str, Literal[0, 1]], ...] = (
            ("reward", title, unit, 1),
            ("kl", "KL to start", "nats/answer", 0),
        )
        for kind, what, measured, better in shown:
            for name in names:
                columns[f"{kind}_{name}"] = [_value(r, kind, name) for r in rows]
                label = f"{what} at {float(name):.0%}"
                metrics.append(metric(f"{kind}_{name}", label, measured, better, "mean", f"{kind}_{name}"))
        return Scored({"items": columns}, metrics)


def _value(row: Row, kind: str, fraction: str) -> float | Invalid:
    """Reward or KL at a share of the budget, to six decimals, or why there is none."""
    value = row[kind][fraction]
    if value is not None:
        return value_or_reason(round(value, 6))
    return Invalid(NOT_KEPT if row["kl"][fraction] is None else NO_REWARD)


def _area(row: Row, names: list[str]) -> float | Invalid:
    """Mean reward over the budget up to the last fraction, by trapezoids, to six decimals, or why there is none."""
    start = Invalid(NO_REWARD) if row["start_reward"] is None else value_or_reason(row["start_reward"])
    x, y = [0.0, *map(float, names)], [start, *[_value(row, "reward", name) for name in names]]
    values = [row["start_reward"], *[row["reward"][name] for name in names]]
    invalid = next((value for value in y if isinstance(value, Invalid)), None)
    if invalid is not None:
        return invalid
    total = sum((b - a) * (v + w) / 2 for a, b, v, w in zip(x, x[1:], values, values[1:], strict=False))
    return round(float(total / x[-1]), 6)
